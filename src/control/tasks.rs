//! What runs beside the API: expiry, pruning, and the delivery of webhooks.
