//! Which partition a key belongs to: Kafka's own default partitioner, so that outside producers agree.

use crate::id::EndpointId;

/// A partition's number within its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Partition(pub u16);

/// The partition of `key` among `count`, as Kafka's Java producer computes it (murmur2, sign bit cleared).
pub fn of_key(key: &[u8], count: u16) -> Partition {
    Partition(((murmur2(key) & 0x7FFF_FFFF) % u32::from(count.max(1))) as u16)
}

/// The partition of `deliveries` that owns an endpoint. Its record key is the id's text.
pub fn of_endpoint(endpoint: EndpointId, count: u16) -> Partition {
    let mut text = [0_u8; 29];
    let mut rest = &mut text[..];
    // The id is 3 + 26 bytes by construction, so writing cannot fall short.
    let _ = std::io::Write::write_fmt(&mut rest, format_args!("{endpoint}"));
    of_key(&text, count)
}

/// MurmurHash2, 32 bit, with Kafka's seed (`org.apache.kafka.common.utils.Utils#murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c_u32 ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ h >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own test of its partitioner (`UtilsTest#testMurmur2`).
    #[test]
    fn murmur2_agrees_with_kafka() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn an_endpoint_is_partitioned_by_its_text() {
        let id = EndpointId::of_url("default", "http://a/");
        assert_eq!(of_endpoint(id, 64), of_key(id.to_string().as_bytes(), 64));
    }
}
