//! Low-water marks of lanes: where reading a backlog begins, so that nobody walks over what was removed long ago.
//!
//! Invariant: for every row of the backlog there is a durable mark of its lane that does not lie behind it.
//!
//! Each process writes marks of its own, under a number that is drawn anew whenever it takes over a partition; the
//! lowest of a lane counts. So an owner that does not know yet that it lost a partition can't hide its rows by the
//! marks of the new owner, nor the new owner's rows by its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_core::delivery::Place;
use postrider_core::id::EndpointId;
use postrider_core::partition::Partition;
use tokio::time::Instant;

use super::batches::Row;
use super::layout::{blob, order};
use super::stamps::Stamps;
use crate::store::StoreError;

/// Removed rows before a mark that has risen is written at once.
const MANY: u32 = 1000;
/// Removed rows before it is written after a while; fewer don't slow a reader down.
const SOME: u32 = 100;
/// How long that while is.
const WHILE: Duration = Duration::from_secs(10);
/// Lanes of a partition whose marks are in memory. Beyond, all are forgotten, and written anew where needed.
const MAX_LANES: usize = 200_000;

/// The marks that this process has written, by partition.
#[derive(Default)]
pub(super) struct Marks(Mutex<HashMap<Partition, Arc<Lanes>>>);

/// The marks of one partition, written under one number.
pub(super) struct Lanes {
    partition: i32,
    writer: [u8; 16],
    /// Held while marks are written, so that they become durable in the order in which they were decided.
    pub(super) turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether all lanes of the partition are here, so that nothing lies before a lane's mark.
    adopted: bool,
    lanes: HashMap<EndpointId, Mark>,
}

struct Mark {
    /// The highest place that the durable mark can have; it has it, unless a write is under way or has failed.
    at: Place,
    /// Where it could be, for all before is gone.
    raise: Place,
    /// Rows removed since it was written.
    removed: u32,
    written: Instant,
}

/// What a batch does to a lane.
#[derive(Clone, Copy, Default)]
pub(super) struct Touched {
    pub(super) removed: u32,
    pub(super) lowest: Option<Place>,
}

/// Marks that are decided, and durable once their rows are written.
pub(super) struct Decided(Vec<(EndpointId, Place)>);

impl Marks {
    fn read(&self) -> MutexGuard<'_, HashMap<Partition, Arc<Lanes>>> {
        // Whole even if a holder panicked: entries are only inserted.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The marks of a partition.
    pub(super) fn of(&self, partition: Partition) -> Result<Arc<Lanes>, StoreError> {
        let known = self.read().get(&partition).filter(|lanes| lanes.state().lanes.len() < MAX_LANES).cloned();
        match known {
            Some(lanes) => Ok(lanes),
            None => self.begin(partition),
        }
    }

    /// Forgets the marks of a partition, and begins to write under a new number.
    pub(super) fn begin(&self, partition: Partition) -> Result<Arc<Lanes>, StoreError> {
        let mut writer = [0; 16];
        getrandom::fill(&mut writer).map_err(|error| StoreError::Unavailable(format!("no random number can be had: {error}")))?;
        let lanes = Lanes { partition: i32::from(partition.0), writer, turn: tokio::sync::Mutex::default(), state: Mutex::default() };
        let lanes = Arc::new(lanes);
        self.read().insert(partition, lanes.clone());
        Ok(lanes)
    }

    /// Where reading a lane begins: behind `low`, and where all lanes are known, behind its mark.
    pub(super) fn start(&self, partition: Partition, endpoint: EndpointId, low: Place) -> Place {
        let Some(lanes) = self.read().get(&partition).cloned() else { return low };
        let mut state = lanes.state();
        let adopted = state.adopted;
        let Some(mark) = state.lanes.get_mut(&endpoint) else { return low };
        mark.raise = mark.raise.max(low);
        if adopted { low.max(mark.at) } else { low }
    }
}

impl Lanes {
    pub(super) fn writer(&self) -> [u8; 16] {
        self.writer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole even if a holder panicked: each mark is changed field by field to what is safe.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a batch does, and says whether marks must be written with it.
    pub(super) fn touch(&self, touched: &BTreeMap<EndpointId, Touched>) -> bool {
        let mut state = self.state();
        let mut any = false;
        for (endpoint, Touched { removed, lowest }) in touched {
            any |= match (state.lanes.get_mut(endpoint), *lowest) {
                (None, lowest) => lowest.is_some(),
                (Some(mark), lowest) => {
                    mark.removed = mark.removed.saturating_add(*removed);
                    mark.raise = lowest.map_or(mark.raise, |lowest| mark.raise.min(lowest));
                    mark.rises() || lowest.is_some_and(|lowest| lowest < mark.at)
                }
            };
        }
        any
    }

    /// Decides on the marks that a batch needs. The caller holds the turn from here until [`Lanes::settle`], and calls
    /// that only if the rows were written.
    pub(super) fn decide(&self, touched: &BTreeMap<EndpointId, Touched>, stamps: &Stamps) -> Result<(Decided, Vec<Row>), StoreError> {
        let mut state = self.state();
        let mut decided = Vec::new();
        for (endpoint, Touched { lowest, .. }) in touched {
            let place = match state.lanes.get_mut(endpoint) {
                None => *lowest,
                Some(mark) => {
                    // Again, for marks may have become durable between this batch's touch and its turn.
                    mark.raise = lowest.map_or(mark.raise, |lowest| mark.raise.min(lowest));
                    let risen = if mark.rises() { mark.raise } else { mark.at };
                    let place = lowest.map_or(risen, |lowest| lowest.min(risen));
                    let changed = (place != mark.at).then_some(place);
                    // Until it is known which of the two the durable mark is, it counts as the higher.
                    mark.at = mark.at.max(place);
                    changed
                }
            };
            decided.extend(place.map(|place| (*endpoint, place)));
        }
        drop(state);
        let rows = self.rows(&decided, stamps)?;
        Ok((Decided(decided), rows))
    }

    /// The marks of all lanes at their first rows, beside those that were written since the takeover began. The caller
    /// holds the turn, as for [`Lanes::decide`].
    pub(super) fn adopt(
        &self,
        firsts: impl IntoIterator<Item = (EndpointId, Place)>,
        stamps: &Stamps,
    ) -> Result<(Decided, Vec<Row>), StoreError> {
        let mut state = self.state();
        let mut decided = Vec::new();
        for (endpoint, first) in firsts {
            match state.lanes.get_mut(&endpoint) {
                Some(mark) if mark.at <= first => {}
                Some(_) | None => decided.push((endpoint, first)),
            }
        }
        drop(state);
        let rows = self.rows(&decided, stamps)?;
        Ok((Decided(decided), rows))
    }

    /// Notes that all lanes of the partition are known.
    pub(super) fn adopted(&self) {
        self.state().adopted = true;
    }

    /// Notes that marks are durable.
    pub(super) fn settle(&self, decided: Decided) {
        let mut state = self.state();
        let now = Instant::now();
        for (endpoint, at) in decided.0 {
            match state.lanes.get_mut(&endpoint) {
                Some(mark) => {
                    mark.removed = if at >= mark.at { 0 } else { mark.removed };
                    (mark.at, mark.raise, mark.written) = (at, mark.raise.max(at), now);
                }
                None => drop(state.lanes.insert(endpoint, Mark { at, raise: at, removed: 0, written: now })),
            }
        }
    }

    fn rows(&self, decided: &[(EndpointId, Place)], stamps: &Stamps) -> Result<Vec<Row>, StoreError> {
        let first = stamps.take(1);
        let row = |(endpoint, place): &(EndpointId, Place)| {
            let (endpoint, event) = (blob(endpoint.0), blob(place.event));
            Ok(Row::Mark { partition: self.partition, endpoint, writer: self.writer, order: order(place.order)?, event, stamp: first })
        };
        decided.iter().map(row).collect()
    }
}

impl Mark {
    /// Whether it is worth writing that it has risen.
    fn rises(&self) -> bool {
        self.raise > self.at && (self.removed >= MANY || (self.removed >= SOME && self.written.elapsed() >= WHILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::id::Uid;

    const LANE: EndpointId = EndpointId(Uid(7));

    fn place(order: u64) -> Place {
        Place { order, event: Uid(0) }
    }

    fn put(order: u64) -> BTreeMap<EndpointId, Touched> {
        BTreeMap::from([(LANE, Touched { removed: 0, lowest: Some(place(order)) })])
    }

    fn removed(removed: u32) -> BTreeMap<EndpointId, Touched> {
        BTreeMap::from([(LANE, Touched { removed, lowest: None })])
    }

    /// The order of the mark that a batch writes, if it writes one.
    fn write(lanes: &Lanes, touched: &BTreeMap<EndpointId, Touched>, fails: bool) -> Option<i64> {
        if !lanes.touch(touched) {
            return None;
        }
        let (decided, rows) = lanes.decide(touched, &Stamps::default()).unwrap();
        if !fails {
            lanes.settle(decided);
        }
        match rows.as_slice() {
            [Row::Mark { order, .. }] => Some(*order),
            rows => panic!("{rows:?}"),
        }
    }

    #[test]
    fn a_mark_is_written_for_the_first_row_and_for_what_lies_before_it() {
        let lanes = Marks::default().of(Partition(1)).unwrap();
        assert_eq!(write(&lanes, &put(50), false), Some(50));
        assert_eq!(write(&lanes, &put(60), false), None);
        assert_eq!(write(&lanes, &put(40), false), Some(40));
        assert_eq!(write(&lanes, &put(40), false), None);
        assert_eq!(write(&lanes, &removed(5000), false), None, "nobody has said that it may rise");
    }

    #[test]
    fn a_mark_that_was_perhaps_not_written_is_written_again() {
        let lanes = Marks::default().of(Partition(1)).unwrap();
        assert_eq!(write(&lanes, &put(50), true), Some(50));
        assert_eq!(write(&lanes, &put(60), false), Some(60), "the first may not be there");
        assert_eq!(write(&lanes, &put(30), true), Some(30));
        assert_eq!(write(&lanes, &put(40), false), Some(40));
    }

    #[test]
    fn a_mark_rises_when_many_rows_went_and_never_over_a_row() {
        let marks = Marks::default();
        let lanes = marks.of(Partition(1)).unwrap();
        assert_eq!(write(&lanes, &put(10), false), Some(10));
        assert_eq!(marks.start(Partition(1), LANE, place(500)), place(500));
        assert_eq!(write(&lanes, &removed(MANY - 1), false), None);
        assert_eq!(write(&lanes, &put(200), false), None, "it lies behind the durable mark");
        assert_eq!(write(&lanes, &removed(1), false), Some(200), "not 500: there is a row at 200 now");
        assert_eq!(write(&lanes, &removed(1), false), None);
    }

    #[test]
    fn while_a_mark_rises_it_counts_as_risen() {
        let marks = Marks::default();
        let lanes = marks.of(Partition(1)).unwrap();
        assert_eq!(write(&lanes, &put(10), false), Some(10));
        marks.start(Partition(1), LANE, place(500));
        assert_eq!(write(&lanes, &removed(MANY), true), Some(500));
        assert_eq!(write(&lanes, &put(300), false), Some(300), "the mark might be at 500");
    }

    #[test]
    fn a_row_that_comes_while_a_mark_rises_holds_it_back_for_good() {
        let marks = Marks::default();
        let (lanes, stamps) = (marks.of(Partition(1)).unwrap(), Stamps::default());
        assert_eq!(write(&lanes, &put(10), false), Some(10));
        marks.start(Partition(1), LANE, place(500));
        assert!(lanes.touch(&removed(MANY)));
        let (rising, _) = lanes.decide(&removed(MANY), &stamps).unwrap();
        assert!(lanes.touch(&put(300)));
        lanes.settle(rising);
        let (falling, _) = lanes.decide(&put(300), &stamps).unwrap();
        lanes.settle(falling);
        assert_eq!(write(&lanes, &removed(2 * MANY), false), None, "the row at 300 is still there");
    }

    #[test]
    fn reading_begins_at_the_mark_once_all_lanes_are_known() {
        let marks = Marks::default();
        let lanes = marks.begin(Partition(1)).unwrap();
        assert_eq!(write(&lanes, &put(70), false), Some(70));
        assert_eq!(marks.start(Partition(1), LANE, place(5)), place(5), "other owners' rows may lie before it");
        let (decided, rows) = lanes.adopt([(LANE, place(60)), (EndpointId(Uid(8)), place(9))], &Stamps::default()).unwrap();
        assert_eq!(rows.len(), 2);
        lanes.settle(decided);
        lanes.adopted();
        assert_eq!(marks.start(Partition(1), LANE, place(5)), place(60));
        assert_eq!(marks.start(Partition(1), LANE, place(65)), place(65));
    }
}
