-- Wishes to raise an order's quantity that wait, or waited, for approvals.
CREATE TABLE raises (id BIGINT PRIMARY KEY, order_id BIGINT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX raises_order ON raises (order_id, id);
