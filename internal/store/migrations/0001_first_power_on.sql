-- One dialect for both databases. For SQLite, BYTEA reads BLOB and
-- "BIGINT PRIMARY KEY" reads "INTEGER PRIMARY KEY" (see migrate.go).
-- Times are microseconds since 1970 UTC, 0 for "not yet". IDs come from
-- log_head.next_id. docs/decisions/schema.md says why keys and indexes are
-- what they are.

CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);

-- The row whose lock makes one writer at a time.
CREATE TABLE log_head (
    id       BIGINT PRIMARY KEY,
    size     BIGINT NOT NULL,
    frontier BYTEA  NOT NULL,
    time     BIGINT NOT NULL,
    next_id  BIGINT NOT NULL
);
INSERT INTO log_head (id, size, frontier, time, next_id) VALUES (1, 0, '', 0, 1);

CREATE TABLE leaves (idx BIGINT PRIMARY KEY, body BYTEA NOT NULL);
CREATE TABLE checkpoints (size BIGINT PRIMARY KEY, note BYTEA NOT NULL);

CREATE TABLE products (
    id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision BIGINT NOT NULL, body TEXT NOT NULL
);
CREATE TABLE sites (
    id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, body TEXT NOT NULL
);
CREATE TABLE operators (
    id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, role TEXT NOT NULL, site_id BIGINT NOT NULL,
    key BYTEA NOT NULL UNIQUE, created BIGINT NOT NULL, revoked BIGINT NOT NULL
);
CREATE TABLE idempotency (
    operator TEXT NOT NULL, key TEXT NOT NULL, request BYTEA NOT NULL,
    object_id BIGINT NOT NULL, at BIGINT NOT NULL,
    PRIMARY KEY (operator, key)
);

CREATE TABLE orders (
    id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    product_id BIGINT NOT NULL, site_id BIGINT NOT NULL, state TEXT NOT NULL,
    quantity BIGINT NOT NULL, issued BIGINT NOT NULL, revision BIGINT NOT NULL, body TEXT NOT NULL,
    CHECK (issued >= 0 AND issued <= quantity)
);

CREATE TABLE manifests (
    id BIGINT PRIMARY KEY, order_id BIGINT NOT NULL, state TEXT NOT NULL, sha256 TEXT NOT NULL,
    format TEXT NOT NULL, size BIGINT NOT NULL, records BIGINT NOT NULL, loaded BIGINT NOT NULL,
    fresh BIGINT NOT NULL, repeated BIGINT NOT NULL, disputed BIGINT NOT NULL,
    received BIGINT NOT NULL, updated BIGINT NOT NULL
);
CREATE INDEX manifests_order ON manifests (order_id, sha256);
CREATE TABLE manifest_parts (
    manifest_id BIGINT NOT NULL, seq BIGINT NOT NULL, data BYTEA NOT NULL, PRIMARY KEY (manifest_id, seq)
);
CREATE TABLE manifest_signatures (
    id BIGINT PRIMARY KEY, manifest_id BIGINT NOT NULL, operator TEXT NOT NULL, der BYTEA NOT NULL, at BIGINT NOT NULL
);
CREATE UNIQUE INDEX manifest_signatures_operator ON manifest_signatures (manifest_id, operator);

-- Immutable but for contested. The unique indexes are invariant 3.
CREATE TABLE records (
    id BIGINT PRIMARY KEY, manifest_id BIGINT NOT NULL, row_no BIGINT NOT NULL,
    order_id BIGINT NOT NULL, product_id BIGINT NOT NULL, site_id BIGINT NOT NULL,
    serial TEXT NOT NULL, mac TEXT, uid TEXT, key BYTEA, made TEXT NOT NULL, contested SMALLINT NOT NULL
);
CREATE UNIQUE INDEX records_serial ON records (serial, product_id);
CREATE UNIQUE INDEX records_key ON records (key);
CREATE UNIQUE INDEX records_mac ON records (mac);
CREATE UNIQUE INDEX records_uid ON records (uid);
CREATE INDEX records_order ON records (order_id, id);
-- One row for each run of records that one leaf accounts for.
CREATE TABLE record_runs (first_id BIGINT PRIMARY KEY, last_id BIGINT NOT NULL);

CREATE TABLE disputes (
    id BIGINT PRIMARY KEY, record_id BIGINT NOT NULL, product_id BIGINT NOT NULL, site_id BIGINT NOT NULL,
    serial TEXT NOT NULL, key BYTEA, body TEXT NOT NULL
);
CREATE INDEX disputes_record ON disputes (record_id);
CREATE INDEX disputes_key ON disputes (key);
CREATE INDEX disputes_serial ON disputes (serial, product_id);

-- A row appears when more than the record is known; its id is the record's.
CREATE TABLE devices (
    id BIGINT PRIMARY KEY, state TEXT NOT NULL, before TEXT NOT NULL, key BYTEA,
    certificate_id BIGINT NOT NULL, issued BIGINT NOT NULL, activated BIGINT NOT NULL,
    updated BIGINT NOT NULL, revision BIGINT NOT NULL
);
CREATE UNIQUE INDEX devices_key ON devices (key);

CREATE TABLE certificates (
    id BIGINT PRIMARY KEY, device_id BIGINT NOT NULL, serial BYTEA NOT NULL, key BYTEA NOT NULL,
    der BYTEA NOT NULL, state TEXT NOT NULL, not_after BIGINT NOT NULL, issued BIGINT NOT NULL,
    used BIGINT NOT NULL, revoked BIGINT NOT NULL, reason BIGINT NOT NULL, leaf BIGINT NOT NULL
);
CREATE UNIQUE INDEX certificates_serial ON certificates (serial);
CREATE INDEX certificates_device ON certificates (device_id);

CREATE TABLE registrations (
    id BIGINT PRIMARY KEY, at BIGINT NOT NULL, device_id BIGINT NOT NULL, order_id BIGINT NOT NULL,
    site_id BIGINT NOT NULL, outcome TEXT NOT NULL, body TEXT NOT NULL, decision TEXT NOT NULL,
    ask BYTEA, repeats BIGINT NOT NULL, last BIGINT NOT NULL, leaf BIGINT NOT NULL
);
-- ask recognizes a repeated request while its verdict is held or refused.
CREATE UNIQUE INDEX registrations_ask ON registrations (ask);
CREATE INDEX registrations_device ON registrations (device_id);
CREATE INDEX registrations_open ON registrations (outcome, id) WHERE outcome <> 'admitted';

CREATE TABLE evidence (
    id BIGINT PRIMARY KEY, at BIGINT NOT NULL, kind TEXT NOT NULL, device_id BIGINT NOT NULL,
    registration_id BIGINT NOT NULL, manifest_id BIGINT NOT NULL, site_id BIGINT NOT NULL,
    text TEXT NOT NULL, leaf BIGINT NOT NULL
);
CREATE INDEX evidence_device ON evidence (device_id);
