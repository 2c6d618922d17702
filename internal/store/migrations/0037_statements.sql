-- Signatures of the statements about releases, one by each key.
CREATE TABLE statement_signatures (
  id BIGINT PRIMARY KEY, release_id BIGINT NOT NULL, key_id BIGINT NOT NULL, body TEXT NOT NULL,
  UNIQUE (release_id, key_id)
);
CREATE INDEX statement_signatures_key ON statement_signatures (key_id, release_id);
