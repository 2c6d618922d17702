-- The newest offline status files of each CA (issuer as in statuses): kind 1
-- is a base, 2 a delta. Both share one series of numbers.
CREATE TABLE offline_files (
    id BIGINT PRIMARY KEY, issuer BIGINT NOT NULL, kind BIGINT NOT NULL, number BIGINT NOT NULL, digest BYTEA NOT NULL, bytes BYTEA NOT NULL,
    UNIQUE (issuer, kind)
);
