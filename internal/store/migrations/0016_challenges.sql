-- An answered challenge is kept, and in the log; others go some time after
-- they expired.
CREATE TABLE challenges (
    id BIGINT PRIMARY KEY, nonce BYTEA NOT NULL, device_id BIGINT NOT NULL, operator TEXT NOT NULL,
    created BIGINT NOT NULL, expires BIGINT NOT NULL, result TEXT NOT NULL, leaf BIGINT NOT NULL
);
CREATE UNIQUE INDEX challenges_nonce ON challenges (nonce);
CREATE INDEX challenges_device ON challenges (device_id, id);
CREATE INDEX challenges_open ON challenges (expires) WHERE result = '';
