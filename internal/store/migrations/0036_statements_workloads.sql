-- Signatures of the statements about releases, one by each key.
CREATE TABLE statement_signatures (
  id BIGINT PRIMARY KEY, release_id BIGINT NOT NULL, key_id BIGINT NOT NULL, body TEXT NOT NULL,
  UNIQUE (release_id, key_id)
);
CREATE INDEX statement_signatures_key ON statement_signatures (key_id, release_id);

-- What a workload's tokens must say, as JSON; '' of operators that have a key.
ALTER TABLE operators ADD COLUMN trust TEXT NOT NULL DEFAULT '';
-- The keys of workloads, each for a while, and the tokens that they came by,
-- by their digests: each counts once.
CREATE TABLE operator_logins (
  id BIGINT PRIMARY KEY, operator_id BIGINT NOT NULL, key BYTEA NOT NULL UNIQUE, token BYTEA NOT NULL UNIQUE,
  issuer TEXT NOT NULL, not_after BIGINT NOT NULL, at BIGINT NOT NULL
);
