-- Whom a CA issues to: '' devices, 'sites', 'operators', 'code-signing'. Of a CA
-- that is a file there is a row only once its state changed. And, of each
-- operator's newest certificate, the CA ('' the one that was there from the
-- beginning) and the end (0 is not known).
ALTER TABLE issuing_cas ADD COLUMN purpose TEXT NOT NULL DEFAULT '';
ALTER TABLE operators ADD COLUMN issuer TEXT NOT NULL DEFAULT '';
ALTER TABLE operators ADD COLUMN not_after BIGINT NOT NULL DEFAULT 0;
