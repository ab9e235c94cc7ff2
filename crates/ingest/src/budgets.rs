//! How much of an upstream each tenant may use in a month, and who is told when that is nearly gone, or gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::sync::Cache;
use postrider_backend::store::{ObjectKind, StoreError};
use postrider_core::id::Uid;
use postrider_core::time::Time;
use postrider_core::usage::{Alarm, Mark, Month};
use postrider_metrics::names;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::clock;
use crate::ingest::{Ingest, IngestError, Receipt, envelope};
use crate::submission::{OURSELVES, Submission};

/// What other processes used is known so late.
const FRESH: Duration = Duration::from_secs(1);
/// Tenants whose month is in memory.
const TENANTS: u64 = 10_000;
/// Before what the store or the log did not do is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// How often a change that others get ahead of is tried.
const TRIES: usize = 16;

/// The tokens that every tenant may use in a month of UTC. Cheap to clone; one in a process serves all its workers.
///
/// What is under way as the limit is reached is not cut off, so that somewhat more may be used. What was used and not written
/// down when the process died is not counted; what the store did not confirm may be counted twice.
#[derive(Clone)]
pub struct Budgets(Arc<Inner>);

struct Inner {
    ingest: Arc<Ingest>,
    limit: u64,
    accounts: Cache<String, Arc<Account>>,
}

/// What is known of one tenant.
struct Account {
    tenant: String,
    /// Used, and not written down yet.
    open: AtomicU64,
    /// Whoever has it reads, writes and tells for all who wait for it.
    known: Mutex<Option<Known>>,
}

/// A month as it was read or written last.
struct Known {
    since: Instant,
    /// Its beginning.
    begin: Time,
    month: Month,
}

/// Nothing is left of what a tenant may use.
#[derive(Debug, thiserror::Error)]
#[error("all {limit} tokens of this month are used; there are new ones at {reset}, and upstream.monthly_tokens is the operator's to raise")]
pub struct UsedUp {
    limit: u64,
    reset: Time,
}

impl Budgets {
    /// Allows each tenant `limit` tokens a month; what is to be told enters through `ingest`.
    pub fn new(ingest: Arc<Ingest>, limit: u64) -> Budgets {
        Budgets(Arc::new(Inner { ingest, limit, accounts: Cache::builder().max_capacity(TENANTS).build() }))
    }

    /// Whether the tenant may use more. What others have used counts after a second at the latest.
    pub async fn check(&self, tenant: &str) -> Result<Result<(), UsedUp>, IngestError> {
        let Inner { limit, .. } = *self.0;
        let month = self.settled(&self.account(tenant)).await?;
        Ok(if month.is_used_up(limit) { Err(UsedUp { limit, reset: clock::now().next_month() }) } else { Ok(()) })
    }

    /// Counts what the tenant has used, and returns once that is written down and told, however long it takes.
    pub async fn spend(&self, tenant: &str, tokens: u64) {
        let account = self.account(tenant);
        account.open.fetch_add(tokens, Ordering::Relaxed);
        while let Err(error) = self.settled(&account).await {
            tracing::warn!(%error, tenant, "what a tenant has used can't be written down; trying again");
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn account(&self, tenant: &str) -> Arc<Account> {
        let open = || Arc::new(Account { tenant: tenant.to_owned(), open: AtomicU64::new(0), known: Mutex::new(None) });
        self.0.accounts.get_with_by_ref(tenant, open)
    }

    /// The month with all that is open. Goes on should its caller be dropped, so that nothing is written and not known to be.
    async fn settled(&self, account: &Arc<Account>) -> Result<Month, IngestError> {
        let (inner, account) = (self.0.clone(), account.clone());
        let settling = tokio::spawn(async move { inner.settle(&account).await });
        settling.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}

impl Inner {
    /// Writes down what is open, tells what is to be told, and gives the month as it is then.
    async fn settle(&self, account: &Account) -> Result<Month, IngestError> {
        let mut known = account.known.lock().await;
        let now = clock::now();
        let (begin, open) = (now.month(), account.open.load(Ordering::Relaxed));
        if let Some(known) = known.as_ref().filter(|known| open == 0 && known.begin == begin && known.since.elapsed() < FRESH) {
            return Ok(known.month.clone());
        }
        *known = None; // whatever fails below is looked at again
        let mut month = self.change(account, begin, |month| month.with(open, self.limit, now)).await?;
        account.open.fetch_sub(open, Ordering::Relaxed);
        while month.untold().next().is_some() {
            for (alarm, mark) in month.untold() {
                self.tell(&account.tenant, alarm, mark).await?;
            }
            let seen = month;
            month = self.change(account, begin, |month| month.told(&seen)).await?;
        }
        *known = Some(Known { since: Instant::now(), begin, month: month.clone() });
        Ok(month)
    }

    /// Puts a changed month in the place of the one that is there.
    async fn change(&self, account: &Account, begin: Time, change: impl Fn(&Month) -> Month) -> Result<Month, IngestError> {
        let (store, tenant, id) = (&self.ingest.store, account.tenant.as_str(), name(begin));
        for _ in 0..TRIES {
            let stored = store.get_object(ObjectKind::Usage, tenant, &id).await?;
            let month: Month = match &stored {
                Some(json) => serde_json::from_slice(json).map_err(|error| StoreError::Damaged(format!("usage of {id}: {error}")))?,
                None => Month::default(),
            };
            let changed = change(&month);
            if changed == month {
                return Ok(month);
            }
            let json = serde_json::to_vec(&changed).expect("numbers have a JSON form");
            if store.swap_object(ObjectKind::Usage, tenant, &id, stored, Some(Bytes::from(json))).await? {
                return Ok(changed);
            }
        }
        Err(StoreError::Unavailable("what a tenant has used changes all the time; try again".to_owned()).into())
    }

    /// Makes durable that the tenant is told; whoever tells it again, tells it under the same id.
    async fn tell(&self, tenant: &str, alarm: Alarm, mark: &Mark) -> Result<(), IngestError> {
        let data = data(mark);
        let event = Submission { source: Some(OURSELVES.into()), ..Submission::new(alarm.name(), &data) };
        let number = number(tenant, alarm, mark);
        let body = Receipt::new(number, &event).body(&event);
        let records = self.ingest.records(&envelope(tenant, None, number, &event), body).await?;
        self.ingest.log.append(records).await?;
        names::EVENTS.counter(&[OURSELVES]).increment(1);
        Ok(())
    }
}

/// What a month's row is called, such as `2026-11`.
fn name(begin: Time) -> String {
    begin.to_string()[..7].to_owned()
}

fn number(tenant: &str, alarm: Alarm, mark: &Mark) -> Uid {
    let Mark { at, limit, .. } = *mark;
    let hash = Sha256::digest(format!("{tenant}\0{}\0{limit}", alarm.name()));
    Uid::new(at, 0, hash[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn data(mark: &Mark) -> Box<RawValue> {
    let Mark { at, tokens, limit, .. } = *mark;
    let reset = at.next_month().to_string();
    let data = json!({
        "metric": "tokens",
        "current_usage": tokens,
        "limit": limit,
        "percentage": mark.percentage(),
        "reset_at": reset,
    });
    to_raw_value(&data).expect("JSON has a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_backend::directory::Directory;
    use postrider_backend::folder::Folder;
    use postrider_backend::log::{self, Append, Consumed, Group, Log, Topic};
    use postrider_backend::store::{self, Store};
    use postrider_core::partition::Partition;
    use postrider_core::time::Millis;
    use tempfile::TempDir;

    use crate::ids::Ids;

    const LIMIT: u64 = 1000;

    /// A log and a store, as several processes share them.
    struct World {
        log: Log,
        store: Store,
        _folder: Folder,
        _dir: TempDir,
    }

    impl World {
        fn new() -> World {
            let dir = tempfile::tempdir().unwrap();
            let folder = Folder::open(&dir.path().join("data"), 1).unwrap();
            let options = log::local::Options { partitions: 1, ..log::local::Options::default() };
            let log = log::local::Log::open(&folder.path().join("log"), options).unwrap();
            let (retention, job_retention) = (Millis::from_secs(86_400), Millis::from_secs(86_400));
            let options = store::local::Options { folder: folder.path().join("store"), retention, job_retention, min_free_bytes: 1 << 20 };
            let store = Store::Local(store::local::Store::open(&options, log.clone()).unwrap());
            World { log: Log::Local(log), store, _folder: folder, _dir: dir }
        }

        fn budgets(&self) -> Budgets {
            let directory = Directory::new(self.store.clone(), self.log.clone());
            Budgets::new(Arc::new(Ingest::new(self.log.clone(), self.store.clone(), directory, Ids::new().unwrap())), LIMIT)
        }

        /// What was told by now, each once, however often it was told under its id.
        async fn told(&self) -> Vec<serde_json::Value> {
            let mark = Append { topic: Topic::Events, partition: Partition(0), meta: Bytes::new(), payload: Bytes::new(), failure: None };
            let end = self.log.append(vec![mark]).await.unwrap()[0];
            let mut consumer = self.log.consumers(Group::Router, Topic::Events, 1, 1 << 20).unwrap().remove(0);
            let mut told: Vec<serde_json::Value> = Vec::new();
            loop {
                let Consumed::Records(records) = consumer.next().await.unwrap() else { continue };
                for record in records {
                    if record.offset == end {
                        return told;
                    }
                    let event: serde_json::Value = serde_json::from_slice(&record.payload).unwrap();
                    if told.iter().all(|known| known["id"] != event["id"]) {
                        told.push(event);
                    }
                }
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_many_use_at_once_is_counted_exactly_and_told_once() {
        let world = World::new();
        let processes = [world.budgets(), world.budgets()];
        let spent = |tokens: u64| {
            let spend = |(n, tokens): (u64, u64)| {
                let budgets = processes[n as usize % 2].clone();
                tokio::spawn(async move { budgets.spend("a", tokens).await })
            };
            futures_util::future::join_all((0..10).zip(std::iter::repeat(tokens)).map(spend))
        };
        spent(89).await;
        for budgets in &processes {
            budgets.spend("a", 0).await;
            budgets.check("a").await.unwrap().unwrap();
        }
        spent(11).await;
        // What the other has used last may be news for a second to one of these.
        let words = world.budgets().check("a").await.unwrap().unwrap_err().to_string();
        assert!(words.contains("1000 tokens") && words.contains("upstream.monthly_tokens"), "{words}");
        processes[1].check("b").await.unwrap().unwrap();
        let told = world.told().await;
        assert_eq!(told.len(), 2, "{told:?}");
        let of = |n: usize| (told[n]["type"].as_str().unwrap(), told[n]["data"]["current_usage"].as_u64().unwrap());
        assert!(matches!(of(0), ("usage.limit_warning", 800..=890)), "{told:?}");
        assert_eq!(of(1), ("usage.limit_exceeded", LIMIT));
        let data = &told[1]["data"];
        assert_eq!((&data["metric"], &data["limit"], &data["percentage"]), (&json!("tokens"), &json!(LIMIT), &json!(100)));
        assert_eq!(data["reset_at"], clock::now().next_month().to_string());
    }

    #[tokio::test]
    async fn what_another_process_died_before_it_told_is_told_under_its_id() {
        let world = World::new();
        let now = clock::now();
        let month = Month::default().with(950, LIMIT, now);
        let (_, mark) = month.untold().next().unwrap();
        let json = Bytes::from(serde_json::to_vec(&month).unwrap());
        world.store.put_object(ObjectKind::Usage, "a", &name(now.month()), json).await.unwrap();
        let budgets = world.budgets();
        for _ in 0..2 {
            budgets.check("a").await.unwrap().unwrap();
        }
        budgets.spend("a", 50).await;
        let told = world.told().await;
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!((&told[0]["type"], &told[0]["data"]["percentage"]), (&json!("usage.limit_warning"), &json!(95)));
        assert_eq!(told[0]["id"], number("a", Alarm::Warning, mark).to_string());
        assert_eq!((&told[1]["type"], &told[1]["data"]["current_usage"]), (&json!("usage.limit_exceeded"), &json!(1000)));
    }
}
