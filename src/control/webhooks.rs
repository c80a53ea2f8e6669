//! The deliverer of webhooks.

use std::sync::Arc;

use tokio::sync::watch;

use super::ControlPlane;

/// Delivers what is due until `shutdown` holds `true` or its sender is gone.
pub(super) async fn deliver(plane: Arc<ControlPlane>, mut shutdown: watch::Receiver<bool>) {
    let _ = plane;
    let _ = shutdown.wait_for(|stop| *stop).await;
}
