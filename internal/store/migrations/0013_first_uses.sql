-- A certificate's first use changed one number in a row of half a kilobyte,
-- which PostgreSQL writes anew for that. It is a narrow row of its own now.
CREATE TABLE first_uses (certificate_id BIGINT PRIMARY KEY, at BIGINT NOT NULL);
INSERT INTO first_uses (certificate_id, at) SELECT id, used FROM certificates WHERE used <> 0 ORDER BY id;
ALTER TABLE certificates DROP COLUMN used;
