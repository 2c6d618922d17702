-- How many others must approve what is done with the installation itself: one
-- row, once that was said.
CREATE TABLE approval_policy (id BIGINT PRIMARY KEY, body TEXT NOT NULL);
