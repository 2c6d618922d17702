-- Whom devices belong to, and how they change hands. devices is the packed
-- list of the IDs of a transfer's devices; transfer_id the latest transfer of
-- a device; handover_id the certificate that ended with it. Owner 0 is the
-- manufacturer.
CREATE TABLE owners (id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, body TEXT NOT NULL);
CREATE TABLE transfers (
    id BIGINT PRIMARY KEY, state TEXT NOT NULL, from_id BIGINT NOT NULL, to_id BIGINT NOT NULL, expires BIGINT NOT NULL,
    body TEXT NOT NULL, devices BYTEA NOT NULL
);
ALTER TABLE devices ADD COLUMN owner_id BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN transfer_id BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN handover_id BIGINT NOT NULL DEFAULT 0;
CREATE INDEX devices_owner ON devices (owner_id) WHERE owner_id <> 0;
