//! Jobs: looked up, changed and listed.

use fjall::Readable;
use postrider_core::id::JobId;
use postrider_core::job::Job;

use super::Store;
use super::keys::{self, Key};
use super::tables::{Tables, unavailable};
use super::writer::Command;
use crate::store::codec::decode;
use crate::store::names::check_tenant;
use crate::store::page::{Gather, Span};
use crate::store::{JobFilter, Page, StoreError};

impl Store {
    pub(in crate::store) async fn job(&self, tenant: &str, id: JobId) -> Result<Option<Job>, StoreError> {
        check_tenant(tenant)?;
        let key = key(tenant, id);
        let find = move |tables: &Tables| {
            let Some(bucket) = tables.jobs.get(id.0.time()) else { return Ok(None) };
            bucket.get(&key).map_err(unavailable)?.map(|value| decode(&value)).transpose()
        };
        self.read("look up a job", find).await
    }

    pub(in crate::store) async fn job_tenant(&self, id: JobId) -> Result<Option<String>, StoreError> {
        let find = move |tables: &Tables| {
            let Some(bucket) = tables.jobs.get(id.0.time()) else { return Ok(None) };
            let found = bucket.get(Key::owner(id.0).bytes()).map_err(unavailable)?;
            let text = |name: fjall::Slice| String::from_utf8(name.to_vec()).map_err(|error| StoreError::Damaged(error.to_string()));
            found.map(text).transpose()
        };
        self.read("look up a job's tenant", find).await
    }

    pub(in crate::store) async fn swap_job(&self, tenant: &str, id: JobId, job: &Job) -> Result<bool, StoreError> {
        check_tenant(tenant)?;
        let (key, job) = (key(tenant, id), Box::new(job.clone()));
        self.submit(|done| Command::SwapJob { key, id, job, done }).await
    }

    pub(in crate::store) async fn jobs(
        &self,
        tenant: &str,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Page<(JobId, Job), JobId>, StoreError> {
        check_tenant(tenant)?;
        let scope = Key::scope(keys::JOB, tenant);
        let list = move |tables: &Tables| {
            let span = Span::new(None, None, before.map(|job| job.0));
            let (first, end) = (scope.with(span.first).into_bytes(), scope.with(span.end).into_bytes());
            let snapshot = tables.db.snapshot();
            let mut page = Gather::new(limit);
            for bucket in tables.jobs.newest_first(span.times()) {
                for row in snapshot.range(&bucket, first.clone()..end.clone()).rev() {
                    let (key, value) = row.into_inner().map_err(unavailable)?;
                    let (id, job): (_, Job) = (JobId(keys::uid(&key, 0)?), decode(&value)?);
                    page.rows += 1;
                    page.offer(id, filter.wants(&job).then_some((id, job)));
                    if page.is_full() {
                        return Ok(page.finish(|(id, _)| *id));
                    }
                }
            }
            Ok(page.finish(|(id, _)| *id))
        };
        self.read("list jobs", list).await
    }
}

fn key(tenant: &str, id: JobId) -> Vec<u8> {
    Key::scope(keys::JOB, tenant).with(id.0).into_bytes()
}
