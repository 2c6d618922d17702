-- ACME: what lets an account be opened, the accounts, and their orders for
-- certificates. An order's body is its authorization and challenges; name is
-- its identifier. serial is of the certificate that was issued, replaces of
-- the one before.
CREATE TABLE account_keys (
    id BIGINT PRIMARY KEY, order_id BIGINT NOT NULL, site_id BIGINT NOT NULL, made_by TEXT NOT NULL, note TEXT NOT NULL,
    created BIGINT NOT NULL, expires BIGINT NOT NULL, used BIGINT NOT NULL, account_id BIGINT NOT NULL, revoked BIGINT NOT NULL
);
CREATE TABLE acme_accounts (
    id BIGINT PRIMARY KEY, key BYTEA NOT NULL, spki BYTEA NOT NULL, status TEXT NOT NULL, contact TEXT NOT NULL,
    agreed BIGINT NOT NULL, binding BIGINT NOT NULL, created BIGINT NOT NULL, revision BIGINT NOT NULL
);
CREATE UNIQUE INDEX acme_accounts_key ON acme_accounts (key);
CREATE TABLE acme_orders (
    id BIGINT PRIMARY KEY, account_id BIGINT NOT NULL, status TEXT NOT NULL, name TEXT NOT NULL, created BIGINT NOT NULL,
    expires BIGINT NOT NULL, body TEXT NOT NULL, request BYTEA, serial BYTEA, replaces BYTEA, revision BIGINT NOT NULL
);
CREATE INDEX acme_orders_account ON acme_orders (account_id, id);
CREATE INDEX acme_orders_name ON acme_orders (name, id);
CREATE INDEX acme_orders_serial ON acme_orders (serial) WHERE serial IS NOT NULL;
CREATE INDEX acme_orders_replaces ON acme_orders (replaces) WHERE replaces IS NOT NULL;
CREATE INDEX acme_orders_expires ON acme_orders (expires);
