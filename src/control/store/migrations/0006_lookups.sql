-- Whether a key may use a service, and which keys a namespace has: each asked by anybody.
CREATE INDEX claims_of_key ON claims (namespace, public_key, status, service);
CREATE INDEX claims_decided ON claims (namespace, decided_at);
