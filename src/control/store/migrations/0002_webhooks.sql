CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    service_id TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    url TEXT NOT NULL,
    events TEXT NOT NULL,
    sealed_secret TEXT NOT NULL,
    auth_header TEXT,
    sealed_auth_value TEXT,
    created_at BIGINT NOT NULL,
    -- The circuit breaker: attempts that failed in a row, and until when none is made.
    failures BIGINT NOT NULL,
    paused_until BIGINT NOT NULL,
    -- Deliveries that were not queued because too many waited, and such as were given up.
    dropped BIGINT NOT NULL,
    given_up BIGINT NOT NULL
);
CREATE INDEX webhooks_of_service ON webhooks (service_id);

-- The outbox: a row is written in the transaction of the change that it tells of, and removed when it was delivered
-- or given up.
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY,
    webhook_id TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    claim_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    event TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    leased_until BIGINT NOT NULL
);
CREATE INDEX deliveries_due ON deliveries (webhook_id, next_attempt_at);
CREATE INDEX deliveries_leased ON deliveries (webhook_id, leased_until);
CREATE UNIQUE INDEX deliveries_in_order ON deliveries (webhook_id, claim_id, position);
