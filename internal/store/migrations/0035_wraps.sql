-- Encrypted firmware. What is secret of an encrypted artefact, sealed for a key
-- of the key store; the row has the artefact's id.
CREATE TABLE contents (id BIGINT PRIMARY KEY, body TEXT NOT NULL);
-- The public keys that such files are wrapped for: a device's, or with
-- device_id 0 a family's, which has a name.
CREATE TABLE recipients (
  id BIGINT PRIMARY KEY, product_id BIGINT NOT NULL, device_id BIGINT NOT NULL, name TEXT NOT NULL, fingerprint TEXT NOT NULL UNIQUE, revoked SMALLINT NOT NULL, body TEXT NOT NULL
);
CREATE INDEX recipients_product ON recipients (product_id, id);
CREATE INDEX recipients_device ON recipients (device_id, id);
-- What was wrapped for whom; recipient_id is 0 for the key of a device's
-- certificate.
CREATE TABLE wraps (id BIGINT PRIMARY KEY, artefact_id BIGINT NOT NULL, device_id BIGINT NOT NULL, recipient_id BIGINT NOT NULL, made_by TEXT NOT NULL, at BIGINT NOT NULL);
CREATE INDEX wraps_artefact ON wraps (artefact_id, id);
