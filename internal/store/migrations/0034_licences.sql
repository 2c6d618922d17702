-- Licences for chips. A grant is what one request newly took from an order's
-- quota: its licences have the ids that follow its own, in the order of the
-- request, and stand in signatures in that order, 64 bytes each. Until it is
-- signed, header and signatures are NULL. header is that of each of its
-- licences but for the length of the UID.
CREATE TABLE licence_keys (
    id BIGINT PRIMARY KEY, product_id BIGINT NOT NULL, number BIGINT NOT NULL, algorithm TEXT NOT NULL, spki BYTEA NOT NULL,
    signing SMALLINT NOT NULL, made_by TEXT NOT NULL, created BIGINT NOT NULL
);
CREATE UNIQUE INDEX licence_keys_number ON licence_keys (product_id, number);
CREATE TABLE licence_grants (
    id BIGINT PRIMARY KEY, order_id BIGINT NOT NULL, product_id BIGINT NOT NULL, site_id BIGINT NOT NULL, chips BIGINT NOT NULL,
    made_by TEXT NOT NULL, at BIGINT NOT NULL, key_id BIGINT NOT NULL, signed BIGINT NOT NULL, header BYTEA, signatures BYTEA
);
CREATE INDEX licence_grants_order ON licence_grants (order_id, id);
CREATE INDEX licence_grants_product ON licence_grants (product_id, id);
CREATE TABLE licences (id BIGINT PRIMARY KEY, uid BYTEA NOT NULL, grant_id BIGINT NOT NULL);
CREATE UNIQUE INDEX licences_uid ON licences (uid);
CREATE TABLE programmed (licence_id BIGINT PRIMARY KEY, at BIGINT NOT NULL, made_by TEXT NOT NULL);
-- lot is what licences call the order, 0 before the first; licensed is how
-- many chips have one, or one reserved.
ALTER TABLE orders ADD COLUMN lot BIGINT NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN licensed BIGINT NOT NULL DEFAULT 0 CHECK (licensed >= 0 AND licensed <= quantity);
CREATE UNIQUE INDEX orders_lot ON orders (lot) WHERE lot <> 0;
