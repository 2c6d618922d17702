-- The endorsement key of the TPM that a device first enrolled by; NULL for the
-- others. One is one device.
ALTER TABLE devices ADD COLUMN ek BYTEA;
CREATE UNIQUE INDEX devices_ek ON devices (ek);
-- Where a record lists an endorsement key, it stands first in made.
CREATE INDEX records_ek ON records (substr(made, 12, 64)) WHERE substr(made, 1, 11) = '{"ekHash":"';
-- What servers on this database know and nodes that only answer do not.
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BYTEA NOT NULL);
