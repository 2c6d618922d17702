-- The CAs that issue to the devices of owners that name them: their
-- certificates, and the SHA-256 of their keys, which stay where the servers'
-- configurations say.
CREATE TABLE issuing_cas (
    id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, subject BYTEA NOT NULL UNIQUE, key BYTEA NOT NULL UNIQUE,
    certificate BYTEA NOT NULL, created BIGINT NOT NULL, updated BIGINT NOT NULL
);
