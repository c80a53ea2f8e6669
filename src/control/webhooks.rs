//! Delivery of webhooks.
