-- Which service of another owner a bare slug in `trustedServices` meant when it was written down: a service that is made
-- later, by whomever, is not meant by it.
CREATE TABLE trusted_services (
    namespace TEXT NOT NULL REFERENCES namespaces (namespace),
    slug TEXT NOT NULL,
    service_id TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    PRIMARY KEY (namespace, slug)
);
CREATE INDEX trusted_services_of_service ON trusted_services (service_id);
