CREATE TABLE usage_events (
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL
);
CREATE INDEX usage_events_at ON usage_events (at);
