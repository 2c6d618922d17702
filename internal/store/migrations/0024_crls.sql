-- The newest revocation list of each CA (issuer as in statuses) and scope:
-- all its certificates, what changed since that, or one partition of so many.
-- A delta shares the numbers of the list that it completes.
CREATE TABLE crls (
    id BIGINT PRIMARY KEY, issuer BIGINT NOT NULL, partitions BIGINT NOT NULL, part BIGINT NOT NULL, delta BIGINT NOT NULL,
    number BIGINT NOT NULL, base BIGINT NOT NULL, seq BIGINT NOT NULL, this_update BIGINT NOT NULL, next_update BIGINT NOT NULL, since BIGINT NOT NULL,
    entries BIGINT NOT NULL, size BIGINT NOT NULL, digest BYTEA NOT NULL, body BIGINT NOT NULL, version BIGINT NOT NULL,
    UNIQUE (issuer, partitions, part, delta)
);
CREATE INDEX crls_version ON crls (version);
-- Their bytes, in chunks. idle is since when they are of no list: they are
-- being written, or were replaced and may still be on their way to a client;
-- 0 for those of a list.
CREATE TABLE crl_bodies (id BIGINT PRIMARY KEY, idle BIGINT NOT NULL);
CREATE INDEX crl_bodies_idle ON crl_bodies (idle) WHERE idle > 0;
CREATE TABLE crl_chunks (body BIGINT NOT NULL, chunk BIGINT NOT NULL, bytes BYTEA NOT NULL, PRIMARY KEY (body, chunk));
