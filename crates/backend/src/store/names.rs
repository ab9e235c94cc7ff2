//! What names may be that become parts of keys.

use super::{MAX_KEY, MAX_TENANT, StoreError, Write};

/// Refuses a tenant whose name has no place in a key.
pub(super) fn check_tenant(tenant: &str) -> Result<(), StoreError> {
    if tenant.len() > MAX_TENANT {
        return Err(StoreError::TooLong { what: "a tenant's name", limit: MAX_TENANT });
    }
    Ok(())
}

/// Refuses a batch in which a tenant's name has no place in a key.
pub(super) fn check_tenants(batch: &[Write]) -> Result<(), StoreError> {
    batch.iter().try_for_each(|write| {
        check_tenant(match write {
            Write::Event(event) => &event.tenant,
            Write::Delivery(delivery) => &delivery.tenant,
            Write::Job(job) => &job.tenant,
            Write::JobTenant { tenant, .. } => tenant,
        })
    })
}

/// Refuses a text that has no place in a key.
pub(super) fn check_key(what: &'static str, key: &str) -> Result<(), StoreError> {
    if key.len() > MAX_KEY { Err(StoreError::TooLong { what, limit: MAX_KEY }) } else { Ok(()) }
}
