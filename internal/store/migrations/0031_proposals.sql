-- Acts that wait, or waited, for the approval of others. payload is what
-- approvals sign; leaf is the log's about the newest change.
CREATE TABLE proposals (
    id BIGINT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, state TEXT NOT NULL, expires BIGINT NOT NULL,
    payload BYTEA NOT NULL, body TEXT NOT NULL, leaf BIGINT NOT NULL
);
CREATE INDEX proposals_kind ON proposals (kind, subject, id);
CREATE INDEX proposals_state ON proposals (state, id);
