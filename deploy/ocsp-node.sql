-- The user as whom a node of role ocsp reads the database: what is told of
-- certificates and nothing else. Run it as the database's owner, in the
-- database, after `touchmark serve` has made the tables, and again after an
-- upgrade; then give the user a password (\password touchmark_ocsp).
DO $$ BEGIN
	CREATE ROLE touchmark_ocsp LOGIN;
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;
ALTER ROLE touchmark_ocsp SET default_transaction_read_only = on;
GRANT SELECT ON goose_db_version, meta, statuses, issuing_cas, crls, crl_bodies, crl_chunks, offline_files TO touchmark_ocsp;
