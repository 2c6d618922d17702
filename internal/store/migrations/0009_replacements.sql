-- Which device took the place of which.
ALTER TABLE devices ADD COLUMN replaced_by BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN replaces BIGINT NOT NULL DEFAULT 0;
