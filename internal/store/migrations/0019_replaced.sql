-- Units that an order's site replaced itself. Those of before are not counted:
-- the log has the order's row as it was.
ALTER TABLE orders ADD COLUMN replaced BIGINT NOT NULL DEFAULT 0 CHECK (replaced >= 0);
