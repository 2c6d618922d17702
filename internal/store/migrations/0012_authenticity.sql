-- A person's word that evidence was a false alarm, as JSON; '' while it
-- stands. mark recognizes what is seen again, while it stands.
ALTER TABLE evidence ADD COLUMN cleared TEXT NOT NULL DEFAULT '';
ALTER TABLE evidence ADD COLUMN repeats BIGINT NOT NULL DEFAULT 0;
ALTER TABLE evidence ADD COLUMN last BIGINT NOT NULL DEFAULT 0;
ALTER TABLE evidence ADD COLUMN mark BYTEA;
CREATE UNIQUE INDEX evidence_mark ON evidence (mark) WHERE mark IS NOT NULL;
