//! Producers: what they append to the partition, and when.

use bytes::Bytes;
use postrider_core::delivery::Delivery;
use postrider_core::id::{DeliveryId, Uid};
use postrider_core::record::Command;

use crate::partition::Record;
use crate::world::{Step, World, endpoint_id, short};

/// Payloads are cut from this.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

impl World {
    /// Appends a burst of records and plans the next one.
    pub(crate) fn append(&mut self) {
        let burst = self.chance.between(1, self.plan.traffic.burst);
        for _ in 0..burst {
            self.append_delivery();
            if self.accepted.len() >= self.plan.traffic.deliveries {
                break;
            }
        }
        let odds = [
            (Command::Deliver, self.plan.traffic.repeats),
            (Command::Replay, self.plan.traffic.replays),
            (Command::Retry, self.plan.traffic.commands / 2.0),
            (Command::Cancel, self.plan.traffic.commands / 2.0),
        ];
        for (command, share) in odds {
            for _ in 0..burst {
                if self.chance.hits(share) {
                    self.append_about_another(command);
                }
            }
        }
        if self.accepted.len() < self.plan.traffic.deliveries {
            let pause = self.plan.traffic.span.0 * burst * 2 / self.plan.traffic.deliveries as u64;
            let next = self.now + self.chance.span(0, pause);
            self.agenda.plan(next, Step::Append);
        }
        if let Some(owner) = self.owners.get_mut(&self.epoch).filter(|owner| !owner.reading) {
            owner.reading = true;
            let at = self.now + self.chance.span(0, 5);
            self.agenda.plan(at, Step::Read(self.epoch));
        }
    }

    fn append_delivery(&mut self) {
        let total: u32 = self.plan.endpoints.iter().map(|endpoint| endpoint.weight).sum();
        let mut drawn = self.chance.between(1, u64::from(total)) as u32;
        let mut endpoint = 0;
        while drawn > self.plan.endpoints[endpoint].weight {
            drawn -= self.plan.endpoints[endpoint].weight;
            endpoint += 1;
        }
        let number = self.accepted.len() as u64;
        // Ids grow with acceptance, as those of one node do.
        let event = Uid::new(self.now, (number & 0xFFF) as u16, number << 2);
        let keys = self.plan.endpoints[endpoint].keys;
        let key = (keys > 0).then(|| self.chance.between(1, keys));
        let id = DeliveryId { event, endpoint: endpoint_id(endpoint) };
        let payload = self.chance.between(10, self.plan.traffic.payload) as usize;
        let delivery = Delivery {
            id,
            key,
            since: self.now,
            attempts: 0,
            failed: 0,
            meta: Bytes::from_static(&ZEROS[..64]),
            payload: Bytes::from_static(&ZEROS[..payload]),
        };
        self.accepted.push(id);
        self.counts.accepted += 1;
        let strict = self.plan.keeps_order(endpoint);
        let record = Record { command: Command::Deliver, delivery, at: self.now, repeat: false };
        self.append_record(record, key.filter(|_| strict).map(|key| (endpoint, key)));
    }

    fn append_about_another(&mut self, command: Command) {
        let id = self.chance.pick(&self.accepted);
        let Some(first) = self.ledger.accounts.get(&id).and_then(|account| self.partition.record(account.offsets[0])) else { return };
        let mut delivery = Delivery { since: self.now, ..first.delivery.clone() };
        match command {
            Command::Deliver => self.counts.repeats += 1,
            Command::Replay => {
                delivery.attempts = self.store.attempts(id).max().unwrap_or(0);
                self.counts.replays += 1;
            }
            Command::Retry | Command::Cancel => self.counts.commands += 1,
        }
        self.append_record(Record { command, delivery, at: self.now, repeat: true }, None);
    }

    fn append_record(&mut self, record: Record, key: Option<(usize, u64)>) {
        let gap = self.chance.between(0, 300);
        let offset = self.partition.append(gap, record.clone());
        let Record { command, delivery, .. } = &record;
        self.trace.note(self.now, &[1, offset.0, delivery.id.event.0 as u64], || {
            format!("append    {} {command:?} {}", offset.0, short(delivery.id))
        });
        self.ledger.appended(offset, &record, key);
    }
}
