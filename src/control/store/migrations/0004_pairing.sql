-- Pairing sessions: from a code that an owner copies to a durable pairing with one gateway's key.
CREATE TABLE pairings (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL REFERENCES namespaces (namespace),
    created_at BIGINT NOT NULL,
    code_expires_at BIGINT NOT NULL,
    -- SHA-256 of session and code; gone once it was used.
    code_sha256 TEXT,
    tries BIGINT NOT NULL,
    gateway_id TEXT,
    gateway_namespace TEXT,
    gateway_key TEXT,
    sealing_key TEXT,
    -- The open socket, wherever it is: its mark, and until when it is taken for open.
    mark TEXT NOT NULL,
    connected_until BIGINT NOT NULL,
    last_connected_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX pairings_of_namespace ON pairings (namespace, created_at);

-- Commands on their way to the replica that holds the socket, and their answers on the way back. A row lives for one
-- command's time at the most. Secrets stand in it sealed to the gateway alone.
CREATE TABLE pairing_commands (
    request_id TEXT PRIMARY KEY,
    pairing_id TEXT NOT NULL REFERENCES pairings (id) ON DELETE CASCADE,
    command TEXT NOT NULL,
    taken BIGINT NOT NULL,
    answer TEXT,
    deadline BIGINT NOT NULL
);
CREATE INDEX pairing_commands_of_pairing ON pairing_commands (pairing_id, taken);
CREATE INDEX pairing_commands_ending ON pairing_commands (deadline);
