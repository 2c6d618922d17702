-- The TUF repository: keys of its online roles, every root, and the newest
-- file of each other role. Bytes that were replaced stay for a while.
CREATE TABLE tuf_keys (
  id BIGINT PRIMARY KEY, role TEXT NOT NULL, number BIGINT NOT NULL, spki BYTEA NOT NULL, made_by TEXT NOT NULL, created BIGINT NOT NULL,
  UNIQUE (role, number)
);
CREATE TABLE tuf_roots (id BIGINT PRIMARY KEY, version BIGINT NOT NULL UNIQUE, expires BIGINT NOT NULL, file TEXT NOT NULL);
CREATE TABLE tuf_files (id BIGINT PRIMARY KEY, role TEXT NOT NULL UNIQUE, version BIGINT NOT NULL, expires BIGINT NOT NULL, listing BIGINT NOT NULL, digest BYTEA NOT NULL);
CREATE TABLE tuf_bodies (role TEXT NOT NULL, version BIGINT NOT NULL, replaced BIGINT NOT NULL, file BYTEA NOT NULL, PRIMARY KEY (role, version));
CREATE INDEX releases_state ON releases (state, id);
