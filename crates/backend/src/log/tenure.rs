//! Whose a partition is, and since when.

use postrider_core::partition::Partition;

/// One reader's time with a partition. A reader that loses a partition and is given it again has two: what the first
/// left under way must not be taken for the second's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenure {
    /// The partition.
    pub partition: Partition,
    number: u64,
}

/// Numbers the tenures of one reader.
#[derive(Debug, Default)]
pub struct Tenures {
    begun: u64,
}

impl Tenures {
    /// The next tenure, of `partition`.
    pub fn begin(&mut self, partition: Partition) -> Tenure {
        self.begun += 1;
        Tenure { partition, number: self.begun }
    }
}
