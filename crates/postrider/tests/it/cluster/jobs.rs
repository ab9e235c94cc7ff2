//! Jobs on several processes that die, freeze and end.

use crate::jobs::{SETTINGS, a_running_job_is_canceled, assert_all_ended, evaluation, is_running, submit};
use crate::receiver::Receiver;
use crate::world::eventually;

use super::world::Cluster;

const PARTITIONS: u16 = 4;

#[tokio::test]
async fn workers_that_are_killed_or_end_leave_every_job_with_one_end() {
    let cluster = Cluster::new(SETTINGS, PARTITIONS).await;
    let front = cluster.start("api,router,deliver").await;
    let (mut first, mut second) = (cluster.start("compute").await, cluster.start("compute").await);
    let receiver = Receiver::answering(200).await;
    let api = front.api();
    let mut jobs = Vec::new();
    for _ in 0..16 {
        jobs.push(submit(&api, evaluation(300, &receiver)).await);
    }
    eventually("a running job", async || is_running(&api).await.then_some(())).await;
    first.process.kill();
    cluster.restart(&mut first).await;
    eventually("a running job", async || is_running(&api).await.then_some(())).await;
    second.stop().await;
    cluster.restart(&mut second).await;
    eventually("a running job", async || is_running(&api).await.then_some(())).await;
    second.process.kill();
    assert_all_ended(&api, &receiver, &jobs, 300).await;
}

#[tokio::test]
async fn a_worker_that_was_frozen_ends_no_job_that_another_has_taken_over() {
    let cluster = Cluster::new(SETTINGS, PARTITIONS).await;
    let front = cluster.start("api,router,deliver").await;
    let first = cluster.start("compute").await;
    let receiver = Receiver::answering(200).await;
    let api = front.api();
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(submit(&api, evaluation(1000, &receiver)).await);
    }
    eventually("a running job", async || is_running(&api).await.then_some(())).await;
    first.freeze();
    let second = cluster.start("compute").await;
    assert_all_ended(&api, &receiver, &jobs, 1000).await;
    first.thaw();
    // It finds out that its jobs are others' by now, and does new ones.
    let more = vec![submit(&api, evaluation(10, &receiver)).await];
    assert_all_ended(&api, &receiver, &more, 10).await;
    assert_all_ended(&api, &receiver, &jobs, 1000).await;
    drop(second);
}

#[tokio::test]
async fn a_job_that_runs_elsewhere_stops_when_it_is_canceled() {
    let cluster = Cluster::new(SETTINGS, PARTITIONS).await;
    let front = cluster.start("api,router,deliver").await;
    let _worker = cluster.start("compute").await;
    a_running_job_is_canceled(&front.api()).await;
}
