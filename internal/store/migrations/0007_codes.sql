-- One-time enrolment codes, by their hash alone. device_id is 0 for a code of
-- an order. batch is the id of the first code made together with this one;
-- such codes have consecutive ids.
CREATE TABLE codes (
    id BIGINT PRIMARY KEY, hash BYTEA NOT NULL, batch BIGINT NOT NULL,
    order_id BIGINT NOT NULL, site_id BIGINT NOT NULL, device_id BIGINT NOT NULL,
    made_by TEXT NOT NULL, created BIGINT NOT NULL, expires BIGINT NOT NULL,
    used BIGINT NOT NULL, used_by BIGINT NOT NULL, revoked BIGINT NOT NULL
);
CREATE UNIQUE INDEX codes_hash ON codes (hash);
CREATE INDEX codes_order ON codes (order_id, id);
CREATE INDEX codes_device ON codes (device_id) WHERE device_id <> 0;
