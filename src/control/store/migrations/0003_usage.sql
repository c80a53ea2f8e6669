-- What came before, so that an event that comes again changes nothing. The event itself lives on in the sums.
CREATE TABLE usage_events (
    service_owner TEXT NOT NULL,
    id TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (service_owner, id)
);
CREATE INDEX usage_events_at ON usage_events (service_owner, at);

CREATE TABLE usage_sums (
    namespace TEXT NOT NULL,
    service_owner TEXT NOT NULL,
    service TEXT NOT NULL,
    subject TEXT NOT NULL,
    public_key TEXT NOT NULL,
    agent_id TEXT,
    calls BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    response_bytes BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    last_protocol TEXT NOT NULL,
    last_action TEXT NOT NULL,
    last_outcome TEXT NOT NULL,
    last_status_code BIGINT,
    PRIMARY KEY (namespace, service_owner, service, subject, public_key)
);
CREATE INDEX usage_sums_recent ON usage_sums (namespace, last_at);
CREATE INDEX usage_sums_calls ON usage_sums (namespace, calls);
CREATE INDEX usage_sums_subject ON usage_sums (namespace, subject);
CREATE INDEX usage_sums_silent ON usage_sums (namespace, service_owner, last_at);
