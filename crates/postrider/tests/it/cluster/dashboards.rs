//! What operators look at has data, also where each role has a process of its own.

use crate::dashboards::{SETTINGS, assert_everything_has_data, register};
use crate::prometheus::Prometheus;

use super::world::Cluster;

const PARTITIONS: u16 = 4;

#[tokio::test]
async fn every_panel_and_alert_has_data_of_a_cluster() {
    let cluster = Cluster::new(SETTINGS, PARTITIONS).await;
    let mut nodes = Vec::new();
    for role in ["api", "router", "deliver", "compute"] {
        nodes.push(cluster.start(role).await);
    }
    let admins: Vec<String> = nodes.iter().map(|node| node.admin.to_string()).collect();
    let prometheus = Prometheus::scraping(&admins).await;
    let api = nodes[0].api();
    let receivers = register(&api).await;
    assert_everything_has_data(&prometheus, &api, &receivers).await;
}
