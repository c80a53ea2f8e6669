-- Names this database in cursors, and numbers the changes of the feed. One row: whoever writes a change holds it until
-- the commit, so that numbers become visible in their order. Changes up to `oldest` are forgotten.
CREATE TABLE feed_head (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    epoch TEXT NOT NULL,
    seq BIGINT NOT NULL,
    oldest BIGINT NOT NULL
);
INSERT INTO feed_head (one, epoch, seq, oldest) VALUES (1, '', 0, 0);

-- A namespace that was deleted stays as a row, so that its name is not given again.
CREATE TABLE namespaces (
    namespace TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    auto_expire BIGINT NOT NULL,
    settings TEXT NOT NULL
);

CREATE TABLE owners (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL REFERENCES namespaces (namespace),
    email TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (namespace, email)
);

CREATE TABLE services (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL REFERENCES namespaces (namespace),
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    domain TEXT NOT NULL,
    description TEXT NOT NULL,
    mode TEXT NOT NULL,
    upstream_url TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (owner, slug)
);
CREATE INDEX services_of_slug ON services (slug);

CREATE TABLE service_keys (
    id TEXT PRIMARY KEY,
    service_id TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    sha256 TEXT NOT NULL UNIQUE,
    all_services BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT
);
CREATE INDEX service_keys_of_service ON service_keys (service_id);

-- A claim outlives its service and its namespace. `ttl_seconds` counts from the approval.
CREATE TABLE claims (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    public_key TEXT NOT NULL,
    service_id TEXT NOT NULL,
    service TEXT NOT NULL,
    service_owner TEXT NOT NULL,
    subject TEXT NOT NULL,
    agent_id TEXT,
    agent_name TEXT,
    agent_ip TEXT NOT NULL,
    status TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    approved_at BIGINT,
    decided_at BIGINT,
    decided_by TEXT,
    expires_at BIGINT,
    ttl_seconds BIGINT,
    first_approver TEXT
);
-- Of (namespace, key, service) at most one claim is pending or approved.
CREATE UNIQUE INDEX claims_standing ON claims (namespace, public_key, service_id)
    WHERE status IN ('pending', 'approved');
CREATE INDEX claims_of_namespace ON claims (namespace, created_at, id);
CREATE INDEX claims_counted ON claims (namespace, status, service_id, expires_at);
CREATE INDEX claims_of_service ON claims (service_owner, service, status, id, expires_at);
CREATE INDEX claims_on_service ON claims (service_id, status);
CREATE INDEX claims_ending ON claims (status, expires_at);
CREATE INDEX claims_waiting ON claims (status, created_at);
CREATE INDEX claims_ended ON claims (status, decided_at);

-- Nonces of submissions.
CREATE TABLE claim_nonces (
    namespace TEXT NOT NULL,
    nonce TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (namespace, nonce)
);
CREATE INDEX claim_nonces_ending ON claim_nonces (expires_at);

-- The feed: what became approved and what ceased to be.
CREATE TABLE feed_events (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    service_owner TEXT NOT NULL,
    service TEXT NOT NULL,
    claim_id TEXT NOT NULL,
    change TEXT NOT NULL,
    claim TEXT
);
CREATE INDEX feed_events_of_service ON feed_events (service_owner, service, seq);

-- Nonces of signed requests, where several replicas must know each other's.
CREATE TABLE request_nonces (
    namespace TEXT NOT NULL,
    nonce TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (namespace, nonce)
);
CREATE INDEX request_nonces_ending ON request_nonces (expires_at);
