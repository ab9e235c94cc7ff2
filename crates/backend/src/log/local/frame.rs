//! One entry of the stream, as bytes.
//!
//! `length u32 | crc32c u32 | kind u8 | partition u16 | time u64 | meta length u32 | meta | payload`, little-endian.
//! The length counts what comes behind the checksum, and the checksum covers just that.

use bytes::Bytes;
use postrider_core::partition::Partition;
use postrider_core::time::Time;

use crate::log::{Group, Topic};

/// Bytes before a frame's meta.
pub(super) const HEADER: usize = 23;
/// Bytes that length and checksum take.
const SEAL: usize = 8;
/// Bytes of a whole mark.
pub(super) const MARK: usize = HEADER + 16;

/// What a frame is. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A record; its kind byte is the topic's number.
    Record(Topic),
    /// The progress of a group in one partition: meta is group and topic, the payload `Progress::encode`.
    Commit,
    /// The whole ledger, first in every segment.
    Checkpoint,
    /// First in every batch: its own position, and up to where the stream had been synced when it was written.
    Mark,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Kind::Record(topic) => topic.number(),
            Kind::Commit => 16,
            Kind::Checkpoint => 17,
            Kind::Mark => 18,
        }
    }

    fn from_number(number: u8) -> Option<Kind> {
        match number {
            16 => Some(Kind::Commit),
            17 => Some(Kind::Checkpoint),
            18 => Some(Kind::Mark),
            _ => Topic::from_number(number).map(Kind::Record),
        }
    }
}

/// A frame ready to be written: its header with the checksum, and what it carries, not copied yet.
pub(super) struct Encoded<'a> {
    header: [u8; HEADER],
    meta: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// The caller has checked that meta and payload together stay under 4 GiB.
    pub(super) fn new(kind: Kind, partition: Partition, at: Time, meta: &'a [u8], payload: &'a [u8]) -> Encoded<'a> {
        let mut header = [0; HEADER];
        let length = HEADER - SEAL + meta.len() + payload.len();
        header[0..4].copy_from_slice(&(length as u32).to_le_bytes());
        header[8] = kind.number();
        header[9..11].copy_from_slice(&partition.0.to_le_bytes());
        header[11..19].copy_from_slice(&at.0.to_le_bytes());
        header[19..23].copy_from_slice(&(meta.len() as u32).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&header[SEAL..]), meta), payload);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        Encoded { header, meta, payload }
    }

    /// Bytes of the whole frame.
    pub(super) fn len(&self) -> usize {
        HEADER + self.meta.len() + self.payload.len()
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
        out.extend_from_slice(self.meta);
        out.extend_from_slice(self.payload);
    }
}

/// A commit's meta.
pub(super) fn commit_meta(group: Group, topic: Topic) -> [u8; 2] {
    [group as u8, topic.number()]
}

/// Reads what [`commit_meta`] made.
pub(super) fn read_commit_meta(meta: &[u8]) -> Option<(Group, Topic)> {
    let &[group, topic] = meta else { return None };
    Some((Group::from_number(group)?, Topic::from_number(topic)?))
}

/// The mark of a batch at `position`, written when everything before `synced` was durable.
pub(super) fn mark(position: u64, synced: u64, at: Time) -> [u8; MARK] {
    let mut payload = [0; 16];
    payload[..8].copy_from_slice(&position.to_le_bytes());
    payload[8..].copy_from_slice(&synced.to_le_bytes());
    let mut mark = [0; MARK];
    mark[..HEADER].copy_from_slice(&Encoded::new(Kind::Mark, Partition(0), at, &[], &payload).header);
    mark[HEADER..].copy_from_slice(&payload);
    mark
}

/// If an intact mark of `position` begins `bytes`: up to where the stream was synced.
pub(super) fn read_mark(bytes: &[u8], position: u64) -> Option<u64> {
    let payload = bytes.get(HEADER..MARK)?;
    let (own, synced) = payload.split_at(8);
    if own != position.to_le_bytes() {
        return None;
    }
    let header = Header::read(bytes).ok()?;
    if header.kind != Kind::Mark || header.total != MARK || !header.is_intact(bytes) {
        return None;
    }
    synced.try_into().ok().map(u64::from_le_bytes)
}

/// What a frame says about itself before its meta.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) partition: Partition,
    pub(super) at: Time,
    meta: usize,
    /// Bytes of the whole frame.
    pub(super) total: usize,
}

/// The bytes do not begin with a whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// More bytes are needed: so many in all, if what is there can be believed.
    Short {
        /// Length of the whole frame, or of its header when not even that is there.
        needed: usize,
    },
    /// This is no frame.
    Broken,
}

impl Header {
    /// Reads the header of the frame that begins `bytes`, all of which must be there. Leaves the checksum alone.
    pub(super) fn read(bytes: &[u8]) -> Result<Header, Unreadable> {
        let header = Header::peek(bytes)?;
        if bytes.len() < header.total {
            return Err(Unreadable::Short { needed: header.total });
        }
        Ok(header)
    }

    /// As [`Header::read`], when only the header's bytes are there.
    pub(super) fn peek(bytes: &[u8]) -> Result<Header, Unreadable> {
        let Some(header) = bytes.first_chunk::<HEADER>() else { return Err(Unreadable::Short { needed: HEADER }) };
        let [l0, l1, l2, l3, _, _, _, _, kind, p0, p1, t0, t1, t2, t3, t4, t5, t6, t7, m0, m1, m2, m3] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let meta = u32::from_le_bytes([m0, m1, m2, m3]) as usize;
        let total = length + SEAL;
        let kind = Kind::from_number(kind).ok_or(Unreadable::Broken)?;
        if total < HEADER || meta > total - HEADER {
            return Err(Unreadable::Broken);
        }
        Ok(Header {
            kind,
            partition: Partition(u16::from_le_bytes([p0, p1])),
            at: Time(u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7])),
            meta,
            total,
        })
    }

    /// Whether the frame that begins `bytes` is as it was written.
    pub(super) fn is_intact(&self, bytes: &[u8]) -> bool {
        crc32c::crc32c(&bytes[SEAL..self.total]).to_le_bytes() == bytes[4..SEAL]
    }

    /// Meta and payload of the frame at `start` of `bytes`, not copied.
    pub(super) fn parts(&self, bytes: &Bytes, start: usize) -> (Bytes, Bytes) {
        let payload = start + HEADER + self.meta;
        (bytes.slice(start + HEADER..payload), bytes.slice(payload..start + self.total))
    }
}

/// Walks verified frames: where each starts within `bytes`, and its header.
pub(super) fn walk(bytes: &[u8]) -> impl Iterator<Item = (usize, Header)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = Header::read(&bytes[at..]).ok()?;
        at += header.total;
        Some((at - header.total, header))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(meta: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Encoded::new(Kind::Record(Topic::Deliveries), Partition(513), Time(77), meta, payload).write_to(&mut out);
        out
    }

    #[test]
    fn a_frame_reads_as_it_was_written() {
        let bytes = Bytes::from(bytes_of(b"meta", b"payload"));
        let header = Header::read(&bytes).unwrap();
        assert!(header.is_intact(&bytes));
        assert_eq!((header.kind, header.partition, header.at), (Kind::Record(Topic::Deliveries), Partition(513), Time(77)));
        assert_eq!(header.parts(&bytes, 0), (Bytes::from("meta"), Bytes::from("payload")));
        assert_eq!(read_commit_meta(&commit_meta(Group::Deliver, Topic::Events)), Some((Group::Deliver, Topic::Events)));
    }

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        let bytes = bytes_of(b"meta", b"payload");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!Header::read(&damaged).is_ok_and(|header| header.is_intact(&damaged)), "bit {bit}");
        }
    }

    #[test]
    fn a_mark_counts_only_at_its_own_position() {
        let mark = mark(1000, 900, Time(1));
        assert_eq!(read_mark(&mark, 1000), Some(900));
        assert_eq!(read_mark(&mark, 1001), None);
        assert_eq!(read_mark(&mark[..MARK - 1], 1000), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(header) = Header::read(&bytes) {
                header.is_intact(&bytes);
                header.parts(&Bytes::from(bytes.clone()), 0);
            }
            read_mark(&bytes, 0);
            walk(&bytes).count();
        }

        #[test]
        fn any_record_survives_its_bytes(meta in proptest::collection::vec(any::<u8>(), 0..100), payload in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let bytes = Bytes::from(bytes_of(&meta, &payload));
            let header = Header::read(&bytes).unwrap();
            prop_assert!(header.is_intact(&bytes));
            prop_assert_eq!(header.parts(&bytes, 0), (Bytes::from(meta), Bytes::from(payload)));
        }
    }
}
