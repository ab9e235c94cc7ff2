//! A tenant sees the same whatever keeps it: one story, told on the embedded server and on clusters.

mod difference;
mod look;
mod names;
mod story;

use std::time::{Duration, Instant};

use super::world::Cluster;
use crate::world::{Api, Server};
use look::look;
use story::{Cast, Story};

/// How long rows may take to be seen by all, once the story is over.
const SETTLES: Duration = Duration::from_secs(20);

#[tokio::test]
async fn one_process_shows_what_the_embedded_server_shows() {
    let cluster = Cluster::new("", 4).await;
    let node = cluster.start("api,router,deliver").await;
    assert_same_as_embedded(&node.api(), &node.api()).await;
}

#[tokio::test]
async fn processes_of_one_role_show_what_the_embedded_server_shows() {
    let cluster = Cluster::new("", 4).await;
    let nodes = tokio::join!(cluster.start("api"), cluster.start("api"), cluster.start("router"), cluster.start("deliver"));
    let (told, shown, _router, _deliver) = nodes;
    assert_same_as_embedded(&told.api(), &shown.api()).await;
}

/// Tells the story on an embedded server and to `told`, and compares what `shown` shows.
async fn assert_same_as_embedded(told: &Api, shown: &Api) {
    let server = Server::start().await;
    let cast = Cast::new().await;
    let (embedded, cluster) = tokio::join!(Story::told(&server.api, &cast), Story::told(told, &cast));
    difference::assert_same("answers", &embedded.answers(), &cluster.answers());

    let expected = look(&server.api, &embedded).await;
    let over = Instant::now();
    loop {
        // A look may itself take long: the one that decides begins after all has settled.
        let settled = over.elapsed() > SETTLES;
        let seen = look(shown, &cluster).await;
        if seen == expected || settled {
            return difference::assert_same("view", &expected, &seen);
        }
    }
}
