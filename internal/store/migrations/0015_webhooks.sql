-- Where events are delivered to. The body holds the address and what is
-- wanted, seed and former what signing secrets are derived from. A webhook that
-- was deleted leaves its row, for the log tells of it, and its name is free.
CREATE TABLE webhooks (
    id BIGINT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, body TEXT NOT NULL,
    seed BYTEA, former BYTEA, former_until BIGINT NOT NULL, created BIGINT NOT NULL, updated BIGINT NOT NULL, revision BIGINT NOT NULL
);
CREATE UNIQUE INDEX webhooks_name ON webhooks (name) WHERE state <> 'deleted';
-- How far delivery has come, and which server does it until when. The log does
-- not tell of it.
CREATE TABLE webhook_deliveries (
    webhook_id BIGINT PRIMARY KEY, leaf BIGINT NOT NULL, place BIGINT NOT NULL, delivered BIGINT NOT NULL,
    failures BIGINT NOT NULL, failing_from BIGINT NOT NULL, error TEXT NOT NULL, next BIGINT NOT NULL,
    holder TEXT NOT NULL, held_until BIGINT NOT NULL
);
