-- How many units an order issued in each five minutes: over all (scope ''),
-- by one rig ('rig:NAME'), on one line ('line:NAME'). Rules and an order's
-- limits look at the last day.
CREATE TABLE order_counts (
    order_id BIGINT NOT NULL, scope TEXT NOT NULL, slot BIGINT NOT NULL, issued BIGINT NOT NULL,
    PRIMARY KEY (order_id, scope, slot)
);
