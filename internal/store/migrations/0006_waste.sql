-- Units of the quota that records used up which were scrapped before power-on.
ALTER TABLE orders ADD COLUMN wasted BIGINT NOT NULL DEFAULT 0 CHECK (wasted >= 0 AND issued + wasted <= quantity);
