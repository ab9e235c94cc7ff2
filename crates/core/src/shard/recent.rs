//! The deliveries of late, so that a repeat is dropped.

use std::collections::{BTreeSet, VecDeque};

use crate::id::DeliveryId;

/// A bounded memory of delivery ids; the oldest is forgotten first.
#[derive(Debug)]
pub(super) struct Recent {
    most: usize,
    order: VecDeque<DeliveryId>,
    known: BTreeSet<DeliveryId>,
}

impl Recent {
    pub(super) fn new(most: usize) -> Recent {
        Recent { most, order: VecDeque::new(), known: BTreeSet::new() }
    }

    /// Remembers `id`; false when it was known already.
    pub(super) fn insert(&mut self, id: DeliveryId) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > self.most {
            let oldest = self.order.pop_front();
            oldest.map(|id| self.known.remove(&id));
        }
        true
    }
}
