//! Writing what became of events and deliveries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_core::id::EndpointId;
use postrider_core::partition::Partition;
use tokio::time::timeout;

use super::Store;
use super::batches::{Batches, Row, WRITE_LIMIT};
use super::hours::{self, Written};
use super::jobs;
use super::layout::{END, blob, day, event_shard, hour, order, virtual_shard};
use super::marks::{Decided, Lanes, Touched};
use crate::store::codec::encode;
use crate::store::names::check_tenants;
use crate::store::{Attempt, Body, Dead, DeadRow, DeliveryWrite, EndRow, EventRow, EventWrite, Finished, JobWrite, StoreError, Write};

/// Bytes that suffice for most values.
const TYPICAL: usize = 192;
/// Of so many writes each may take as long as one batch: where no two share a partition, each is a request by itself.
const WRITES_A_LIMIT: usize = 1024;

/// A batch as rows. What is in `backlog` is written when all else is durable: a delivery leaves the backlog, and the log
/// behind it, only when its rows say what became of it.
#[derive(Default)]
struct Rows {
    first: Batches,
    backlog: Batches,
    hours: Written,
    touched: BTreeMap<Partition, BTreeMap<EndpointId, Touched>>,
    finished: Vec<Arc<Finished>>,
}

impl Store {
    pub(in crate::store) async fn write(&self, batch: Arc<[Write]>) -> Result<(), StoreError> {
        check_tenants(&batch)?;
        let rows = self.rows(&batch)?;
        let limit = limit(batch.len());
        let late = |_| StoreError::Timeout { what: "write", seconds: limit.as_secs() };
        let finished = timeout(limit, self.write_rows(rows)).await.map_err(late)??;
        for attempt in finished {
            // Without listeners there is nobody to tell.
            let _ = self.inner.feed.send(attempt);
        }
        Ok(())
    }

    async fn write_rows(&self, rows: Rows) -> Result<Vec<Arc<Finished>>, StoreError> {
        let Rows { mut first, backlog, hours, touched, finished } = rows;
        let (session, statements) = (&self.inner.session, &self.inner.statements);
        let new_hours = self.inner.hours.new_of(hours);
        new_hours.iter().for_each(|hour| first.push(hours::row(hour)));

        // In order of the partitions, so that no two writers wait for each other.
        let mut lanes: Vec<(Arc<Lanes>, BTreeMap<EndpointId, Touched>)> = Vec::new();
        for (partition, touched) in touched {
            let of_partition = self.inner.marks.of(partition)?;
            if of_partition.touch(&touched) {
                lanes.push((of_partition, touched));
            }
        }
        let mut turns = Vec::with_capacity(lanes.len());
        let mut decided: Vec<(&Lanes, Decided)> = Vec::with_capacity(lanes.len());
        for (lanes, touched) in &lanes {
            turns.push(lanes.turn.lock().await);
            let (marks, rows) = lanes.decide(touched, &self.inner.stamps)?;
            rows.into_iter().for_each(|row| first.push(row));
            decided.push((lanes.as_ref(), marks));
        }
        first.write(session, statements).await?;
        for (lanes, marks) in decided {
            lanes.settle(marks);
        }
        drop(turns);
        self.inner.hours.note(new_hours);
        backlog.write(session, statements).await?;
        Ok(finished)
    }

    fn rows(&self, batch: &[Write]) -> Result<Rows, StoreError> {
        let mut rows = Rows::default();
        // Each entry has two timestamps, so that of what is put and removed at one place the last counts.
        let mut stamp = self.inner.stamps.take(2 * batch.len().max(1));
        let listeners = self.inner.feed.receiver_count() > 0;
        for write in batch {
            match write {
                Write::Event(write) => event(&mut rows, write)?,
                Write::Job(write) => {
                    let JobWrite { tenant, id, .. } = write;
                    rows.hours.add(tenant, hour(id.0.time()));
                    jobs::rows(write, self.inner.job_ttl).into_iter().for_each(|row| rows.first.push(row));
                }
                Write::JobTenant { id, tenant } => rows.first.push(jobs::tenant_row(*id, tenant, self.inner.job_ttl)),
                Write::Delivery(write) => {
                    let vshard = virtual_shard(write.id.endpoint, self.inner.virtual_shards);
                    delivery(&mut rows, write, vshard, stamp)?;
                    if listeners && let Some((n, row)) = &write.attempt {
                        let attempt = Attempt { id: write.id, n: *n, row: row.clone() };
                        rows.finished.push(Arc::new(Finished { tenant: write.tenant.clone(), attempt }));
                    }
                }
            }
            stamp += 2;
        }
        Ok(rows)
    }
}

/// What `writes` may take together. A server that has fallen silent is noticed by the time-out of a single request.
fn limit(writes: usize) -> Duration {
    WRITE_LIMIT * u32::try_from(writes.div_ceil(WRITES_A_LIMIT)).unwrap_or(u32::MAX).max(1)
}

fn event(rows: &mut Rows, write: &EventWrite) -> Result<(), StoreError> {
    let EventWrite { tenant, event, chunk, row } = write;
    let Body::Inline(body) = &row.body else {
        return Err(StoreError::Damaged(format!("the body of event {event} is in a log of one machine, a cluster can't find it there")));
    };
    let hour = hour(event.time());
    rows.hours.add(tenant, hour);
    // The body has a column of its own, so that lists need not read it; the first chunk's stands for all.
    let value = EventRow { body: Body::Inline(Bytes::new()), ..row.clone() };
    rows.first.push(Row::Event {
        tenant: tenant.clone(),
        hour,
        shard: event_shard(*event),
        id: blob(*event),
        chunk: i64::from(*chunk),
        value: encode(&value, Vec::with_capacity(TYPICAL)),
        body: (*chunk == 0).then(|| body.clone()),
    });
    if let Some(given_id) = row.given_id.as_ref().filter(|_| *chunk == 0) {
        rows.first.push(Row::Name { tenant: tenant.clone(), given_id: given_id.clone(), event: blob(*event) });
    }
    Ok(())
}

fn delivery(rows: &mut Rows, write: &DeliveryWrite, vshard: i32, stamp: i64) -> Result<(), StoreError> {
    let DeliveryWrite { tenant, partition, id, attempt, end, dead, remove, put } = write;
    let (endpoint, event, hour) = (blob(id.endpoint.0), blob(id.event), hour(id.event.time()));
    if attempt.is_some() || end.is_some() || *dead != Dead::Keep {
        rows.hours.add(tenant, hour);
    }
    let mut row_of_attempt = |n: i64, value: Vec<u8>| {
        rows.first.push(Row::Attempt { vshard, hour, endpoint, event, n, tenant: tenant.clone(), value });
    };
    if let Some((n, row)) = attempt {
        row_of_attempt(i64::from(*n), encode(row, Vec::with_capacity(TYPICAL)));
    }
    if let Some((end, at)) = *end {
        row_of_attempt(END, encode(&EndRow { end, at }, Vec::new()));
    }
    let (tenant, day) = (tenant.clone(), day(hour));
    match dead {
        Dead::Keep => {}
        Dead::Add { at, reason } => {
            let value = encode(&DeadRow { at: *at, reason: reason.clone() }, Vec::new());
            rows.first.push(Row::Dead { tenant, day, event, endpoint, value, stamp });
        }
        Dead::Remove => rows.first.push(Row::Undead { tenant, day, event, endpoint, stamp }),
    }

    let of_lane = i32::from(partition.0);
    let removed = match remove {
        None => None,
        Some(place) => {
            let (order, event) = (order(place.order)?, blob(place.event));
            Some(Row::Remove { partition: of_lane, endpoint, order, event, stamp })
        }
    };
    let come = match put {
        None => None,
        Some(row) => {
            let (order, event) = (order(row.place.order)?, blob(row.place.event));
            let value = encode(row, Vec::with_capacity(TYPICAL + row.delivery.meta.len() + row.delivery.payload.len()));
            Some(Row::Put { partition: of_lane, endpoint, order, event, value, stamp: stamp + 1 })
        }
    };
    if removed.is_some() || come.is_some() {
        let touched = rows.touched.entry(*partition).or_default().entry(id.endpoint).or_default();
        touched.removed += u32::from(removed.is_some());
        if let Some(row) = put {
            touched.lowest = Some(touched.lowest.map_or(row.place, |lowest| lowest.min(row.place)));
        }
    }
    match (removed, come) {
        (Some(removed), Some(come)) => rows.backlog.push_together([removed, come]),
        (Some(row), None) | (None, Some(row)) => rows.backlog.push(row),
        (None, None) => {}
    }
    Ok(())
}
