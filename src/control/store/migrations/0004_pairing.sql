CREATE TABLE pairings (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL REFERENCES namespaces (namespace)
);
