-- Firmware: the keys that sign it, releases, and what they consist of.
CREATE TABLE firmware_keys (id BIGINT PRIMARY KEY, product_id BIGINT NOT NULL, name TEXT NOT NULL UNIQUE, body TEXT NOT NULL);
CREATE INDEX firmware_keys_product ON firmware_keys (product_id, id);

-- What holds for all releases of a product: the counter floor, and how many approvals they want.
CREATE TABLE firmware_policies (id BIGINT PRIMARY KEY, product_id BIGINT NOT NULL UNIQUE, body TEXT NOT NULL);

CREATE TABLE releases (
  id BIGINT PRIMARY KEY, product_id BIGINT NOT NULL, version TEXT NOT NULL, state TEXT NOT NULL, counter BIGINT NOT NULL, revision BIGINT NOT NULL, body TEXT NOT NULL,
  UNIQUE (product_id, version)
);
CREATE INDEX releases_product ON releases (product_id, id);

CREATE TABLE artefacts (id BIGINT PRIMARY KEY, release_id BIGINT NOT NULL, stage TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX artefacts_release ON artefacts (release_id, stage, id);

-- SBOMs and provenance. The digest stands in the release.
CREATE TABLE release_documents (release_id BIGINT NOT NULL, sha256 TEXT NOT NULL, content TEXT NOT NULL, PRIMARY KEY (release_id, sha256));
