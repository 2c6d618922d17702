-- The bootstrap key that a device without one in its record was first let in
-- with; NULL for the others.
ALTER TABLE devices ADD COLUMN bound BYTEA;
