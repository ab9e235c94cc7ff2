//! Jobs: made by a plain insert, changed by lightweight transactions, listed by hours.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use postrider_core::id::{JobId, Uid};
use postrider_core::job::Job;
use postrider_core::time::Millis;
use tokio::time::timeout;

use super::Store;
use super::batches::{Row, WRITE_LIMIT};
use super::conditional::Answer;
use super::failure::failed;
use super::layout::{EVENT_SHARDS, blob, event_shard, hour, uid};
use super::lists::{AHEAD, HOUR, rows_of, within};
use super::pages::{Answered, Pages};
use super::walk::{Met, Piece, Read, walk};
use crate::store::codec::{decode, encode};
use crate::store::names::check_tenant;
use crate::store::page::{Gather, Span};
use crate::store::{JobFilter, JobWrite, Page, StoreError};

/// So much before a job was made, by the clock of who took it, lies the timestamp of its first row: before that of any
/// transaction on it, whose clock may be behind.
const BEFORE: Millis = Millis::from_secs(600);
/// Jobs that are read at one time for a list.
const READS: usize = 16;

/// The rows of a new job.
pub(super) fn rows(write: &JobWrite, ttl: i32) -> [Row; 2] {
    let JobWrite { tenant, id: JobId(id), job } = write;
    let stamp = i64::try_from((id.time() - BEFORE).0).unwrap_or(i64::MAX).saturating_mul(1000);
    let (version, value) = (version_of(job), encode(job, Vec::new()));
    [
        Row::Job { tenant: tenant.clone(), id: blob(*id), version, value, ttl, stamp },
        Row::JobId { tenant: tenant.clone(), hour: hour(id.time()), shard: event_shard(*id), id: blob(*id), ttl },
    ]
}

/// The row that finds a job's tenant.
pub(super) fn tenant_row(JobId(id): JobId, tenant: &Arc<str>, ttl: i32) -> Row {
    Row::JobTenant { id: blob(id), tenant: tenant.clone(), ttl }
}

fn version_of(job: &Job) -> i64 {
    i64::try_from(job.version).unwrap_or(i64::MAX)
}

/// The id of a job.
struct Listed(Uid);

impl Piece for Listed {
    fn event(&self) -> Uid {
        self.0
    }

    fn absorb(&mut self, next: Listed) -> Result<(), Listed> {
        Err(next)
    }
}

impl Store {
    pub(in crate::store) async fn job(&self, tenant: &str, id: JobId) -> Result<Option<Job>, StoreError> {
        check_tenant(tenant)?;
        let mut pages = Pages::new(&self.inner.statements.job, &(tenant, blob(id.0)), None)?;
        let page = pages.next(&self.inner.session, "look up a job").await?;
        let found = page.map(|page| page.rows::<(Option<Bytes>,)>()).transpose()?.unwrap_or_default();
        found.into_iter().next().and_then(|(value,)| value).map(|value| decode(&value)).transpose()
    }

    pub(in crate::store) async fn job_tenant(&self, id: JobId) -> Result<Option<String>, StoreError> {
        let mut pages = Pages::new(&self.inner.statements.job_tenant, &(blob(id.0),), None)?;
        let page = pages.next(&self.inner.session, "look up a job's tenant").await?;
        let found = page.map(|page| page.rows::<(String,)>()).transpose()?.unwrap_or_default();
        Ok(found.into_iter().next().map(|(tenant,)| tenant))
    }

    pub(in crate::store) async fn swap_job(&self, tenant: &str, id: JobId, job: &Job) -> Result<bool, StoreError> {
        check_tenant(tenant)?;
        let what = "change a job";
        let version = version_of(job);
        let values = (self.inner.job_ttl, version, encode(job, Vec::new()), tenant, blob(id.0), version - 1);
        let answer = timeout(WRITE_LIMIT, self.inner.session.execute_unpaged(&self.inner.statements.swap_job, &values)).await;
        let answer = answer.map_err(|_| StoreError::Timeout { what, seconds: WRITE_LIMIT.as_secs() })?;
        Ok(Answer::of(answer.map_err(failed(what, WRITE_LIMIT))?)?.applied)
    }

    pub(in crate::store) async fn jobs(
        &self,
        tenant: &str,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Page<(JobId, Job), JobId>, StoreError> {
        check_tenant(tenant)?;
        let list = async {
            let read: Read<Listed> =
                Box::new(|page: &Answered| page.rows::<(Bytes,)>()?.into_iter().map(|(id,)| uid(&id).map(Listed)).collect());
            let span = Span::new(None, None, before.map(|job| job.0));
            let met = self.walk_jobs(tenant, span, limit, &read).await?;
            // In order, but read side by side.
            let mut met = pin!(met.map_ok(|met| self.with_job(tenant, met)).try_buffered(READS));
            let mut page = Gather::new(limit);
            while let Some((id, rows, job)) = met.try_next().await? {
                page.rows += rows;
                page.offer(id, job.filter(|job| filter.wants(job)).map(|job| (id, job)));
                if page.is_full() {
                    break;
                }
            }
            Ok(page.finish(|(id, _)| *id))
        };
        within("list jobs", list).await
    }

    async fn walk_jobs<'a>(
        &'a self,
        tenant: &'a str,
        span: Span,
        limit: usize,
        read: &'a Read<Listed>,
    ) -> Result<impl Stream<Item = Result<Met<Listed>, StoreError>> + Send + 'a, StoreError> {
        let legs = self.legs(tenant, span).await?;
        let ask = move |leg: super::walk::Leg| {
            let of_shard = |shard: i32| {
                let values = (tenant, leg.at, shard, blob(span.first), blob(span.end));
                Pages::new(&self.inner.statements.job_ids, &values, rows_of(limit))
            };
            (0..EVENT_SHARDS).map(of_shard).collect()
        };
        Ok(walk(&self.inner.session, "list jobs", legs, AHEAD, ask, read))
    }

    /// What was met, what looking at it counts for, and the job where it is one.
    async fn with_job(&self, tenant: &str, met: Met<Listed>) -> Result<(JobId, usize, Option<Job>), StoreError> {
        match met {
            Met::Piece(Listed(id)) => Ok((JobId(id), 1, self.job(tenant, JobId(id)).await?)),
            Met::End(leg) => Ok((JobId(leg.first), leg.hours * HOUR, None)),
        }
    }
}
