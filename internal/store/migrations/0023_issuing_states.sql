-- What an issuing CA is used for beyond the owners that name it: 'default' is
-- the one (at most) that issues to all others in place of the device CA,
-- 'closed' issues to nobody, '' is any other.
ALTER TABLE issuing_cas ADD COLUMN state TEXT NOT NULL DEFAULT '';
