//! What a tenant may use of the upstream, before it is asked and after.

use std::time::Duration;

use postrider_core::job::Error;
use postrider_upstream::Usage;

use crate::worker::Shop;

/// Before what the store or the log did not do is tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// Fails where nothing is left of it.
pub(crate) async fn check(shop: &Shop, tenant: &str) -> Result<(), Error> {
    let Some(budgets) = &shop.budgets else { return Ok(()) };
    loop {
        match budgets.check(tenant).await {
            Ok(left) => return left.map_err(|used_up| Error::new("usage_limit_exceeded", used_up)),
            Err(error) => tracing::warn!(%error, tenant, "what a tenant has used can't be looked up; trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Counts what was used, and returns when that is durable and told.
pub(crate) async fn spend(shop: &Shop, tenant: &str, usage: Usage) {
    if let Some(budgets) = &shop.budgets {
        budgets.spend(tenant, usage.total()).await;
    }
}
