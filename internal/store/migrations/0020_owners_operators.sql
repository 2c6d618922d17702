-- The owner that an operator belongs to (0 for the others), and since when a
-- device belongs to its owner.
ALTER TABLE operators ADD COLUMN owner_id BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN owned BIGINT NOT NULL DEFAULT 0;
