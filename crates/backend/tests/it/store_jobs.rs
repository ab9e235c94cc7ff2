//! What every store promises about jobs.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use postrider_backend::store::{JobFilter, JobStatus, JobWrite, Store, Write};
use postrider_core::id::{JobId, Uid};
use postrider_core::job::{Begin, Callback, Counts, Job, State};
use postrider_core::time::{Millis, Time};
use postrider_core::trace::TraceParent;

use crate::world::{NOON, World, store_contract, uid};

store_contract! {
    of_many_changes_of_one_version_one_takes_place,
    a_job_that_was_changed_is_not_made_again,
    a_job_survives_a_crash_with_its_last_change,
    jobs_are_listed_newest_first_page_by_page,
    a_job_is_its_tenants_alone,
}

const LEASE: Millis = Millis::from_secs(15);

fn job(kind: &str) -> Job {
    Job {
        version: 0,
        kind: kind.to_owned(),
        input: None,
        callback: Callback { urls: vec!["http://a.example/".to_owned()], ..Callback::default() },
        metadata: Some("{}".to_owned()),
        priority: 5,
        trace: TraceParent::of_job(Uid(1)).into(),
        counts: Counts::default(),
        state: State::Pending { claims: 0 },
        told: true,
    }
}

fn number(n: u64) -> JobId {
    JobId(uid(NOON, n))
}

async fn make(store: &Store, id: JobId, job: &Job) {
    store.write(vec![Write::Job(JobWrite { tenant: "t".into(), id, job: job.clone() })]).await.unwrap();
}

fn begun(job: &Job, worker: u64) -> Job {
    match job.begin(worker, Time(NOON), LEASE) {
        Begin::Run(job, _) => job,
        other => panic!("{other:?}"),
    }
}

async fn of_many_changes_of_one_version_one_takes_place(world: World) {
    let (id, new) = (number(1), job("evaluate"));
    assert!(!world.store.swap_job("t", id, &begun(&new, 0)).await.unwrap(), "there is none yet");
    make(&world.store, id, &new).await;
    let (store, new) = (&world.store, &new);
    let swaps = join_all((0..8).map(|worker| async move {
        let mine = begun(new, worker);
        store.swap_job("t", id, &mine).await.unwrap().then_some(mine)
    }));
    let winners: Vec<Job> = swaps.await.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(world.store.job("t", id).await.unwrap().as_ref(), winners.first());
    assert!(!world.store.swap_job("t", id, &begun(new, 9)).await.unwrap(), "that version is gone");
    assert!(world.store.swap_job("t", id, &winners[0].cancel(Time(NOON)).unwrap()).await.unwrap());
}

async fn a_job_that_was_changed_is_not_made_again(world: World) {
    let (id, new) = (number(1), job("evaluate"));
    make(&world.store, id, &new).await;
    let running = begun(&new, 7);
    assert!(world.store.swap_job("t", id, &running).await.unwrap());
    make(&world.store, id, &new).await;
    assert_eq!(world.store.job("t", id).await.unwrap(), Some(running));
}

async fn a_job_survives_a_crash_with_its_last_change(world: World) {
    let (one, two) = (number(1), number(2));
    make(&world.store, one, &job("evaluate")).await;
    make(&world.store, two, &job("evaluate")).await;
    let canceled = job("evaluate").cancel(Time(NOON)).unwrap();
    assert!(world.store.swap_job("t", two, &canceled).await.unwrap());
    let reopened = world.reopened().await;
    assert_eq!(reopened.store.job("t", one).await.unwrap(), Some(job("evaluate")));
    assert_eq!(reopened.store.job("t", two).await.unwrap(), Some(canceled));
}

async fn jobs_are_listed_newest_first_page_by_page(world: World) {
    // Over two hours and a midnight, some of them of one millisecond.
    let ids: BTreeSet<JobId> = (0..60).map(|n| JobId(uid(NOON + (n / 2) * 1_440_000, n + 1))).collect();
    for (n, id) in ids.iter().enumerate() {
        let job = job(if n % 3 == 0 { "other" } else { "evaluate" });
        make(&world.store, *id, &job).await;
        if n % 4 == 0 {
            assert!(world.store.swap_job("t", *id, &job.cancel(Time(NOON)).unwrap()).await.unwrap());
        }
    }
    let list = async |filter: JobFilter| {
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = world.store.jobs("t", filter.clone(), before, 7).await.unwrap();
            assert!(page.items.len() <= 7);
            found.extend(page.items.into_iter().map(|(id, _)| id));
            before = page.next;
            if before.is_none() {
                return found;
            }
        }
    };
    let expected =
        |wanted: fn(usize) -> bool| -> Vec<JobId> { ids.iter().enumerate().filter(|(n, _)| wanted(*n)).map(|(_, id)| *id).rev().collect() };
    assert_eq!(list(JobFilter::default()).await, expected(|_| true));
    let of_kind = JobFilter { kind: Some("other".to_owned()), status: None };
    assert_eq!(list(of_kind).await, expected(|n| n % 3 == 0));
    let both = JobFilter { kind: Some("evaluate".to_owned()), status: Some(JobStatus::Canceled) };
    assert_eq!(list(both).await, expected(|n| n % 3 != 0 && n % 4 == 0));
    let none = JobFilter { status: Some(JobStatus::Failed), ..JobFilter::default() };
    assert_eq!(list(none).await, []);
}

async fn a_job_is_its_tenants_alone(world: World) {
    make(&world.store, number(1), &job("evaluate")).await;
    assert_eq!(world.store.job("u", number(1)).await.unwrap(), None);
    assert!(!world.store.swap_job("u", number(1), &job("evaluate").cancel(Time(NOON)).unwrap()).await.unwrap());
    assert_eq!(world.store.jobs("u", JobFilter::default(), None, 10).await.unwrap().items, []);
    assert_eq!(world.store.job_tenant(number(1)).await.unwrap(), None, "nobody has asked that it be found so");
    world.store.write(vec![Write::JobTenant { id: number(1), tenant: "t".into() }]).await.unwrap();
    assert_eq!(world.store.job_tenant(number(1)).await.unwrap().as_deref(), Some("t"));
    assert_eq!(world.store.job_tenant(number(2)).await.unwrap(), None);
}
