//! The audit log: a line for each change that an owner makes.

use std::fmt::Display;

use super::owner::Owner;

/// The target of audit lines, which are shown whatever the log's level is.
const TARGET: &str = "sigilum::audit";

/// Says what an owner has changed: `action`, as in `claim.approve`, and the thing's id. `what` may tell more, and nothing
/// secret.
pub(super) fn changed(owner: &Owner, action: &'static str, thing: &impl Display, what: &str) {
    tracing::info!(
        target: TARGET,
        action,
        outcome = "done",
        %thing,
        namespace = %owner.namespace,
        owner = %owner.id,
        by = %owner.email,
        request_id = %owner.asker.request_id,
        client = %owner.asker.client,
        what,
        "control plane change"
    );
}
