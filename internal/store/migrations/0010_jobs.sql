-- Acts on many devices. ids are the selected devices if they were listed one
-- by one; last_id is how far the job is; plan is the SHA-256 of body and ids.
-- Who works on it holds the lease.
CREATE TABLE jobs (
    id BIGINT PRIMARY KEY, state TEXT NOT NULL, operator TEXT NOT NULL, upto BIGINT NOT NULL, last_id BIGINT NOT NULL,
    worked TEXT NOT NULL, created BIGINT NOT NULL, started BIGINT NOT NULL, updated BIGINT NOT NULL,
    plan TEXT NOT NULL, owner TEXT NOT NULL, lease BIGINT NOT NULL, body TEXT NOT NULL, ids BYTEA
);
CREATE INDEX jobs_running ON jobs (id) WHERE state = 'running';
