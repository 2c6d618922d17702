-- The rules of a product as they were, a row for each change. leaf tells who
-- made it and when; -1 for rules from before this table.
CREATE TABLE rule_versions (
    id BIGINT PRIMARY KEY, product_id BIGINT NOT NULL, version BIGINT NOT NULL, body TEXT NOT NULL, leaf BIGINT NOT NULL
);
CREATE UNIQUE INDEX rule_versions_product ON rule_versions (product_id, version);
