-- From here on new leaves are stored packed (leafpack.go), which programs that
-- know only the schemas before cannot read. What is absent needs no entry in an
-- index: most records have no UID, most registrations no ask.
DROP INDEX records_mac;
CREATE UNIQUE INDEX records_mac ON records (mac) WHERE mac IS NOT NULL;
DROP INDEX records_uid;
CREATE UNIQUE INDEX records_uid ON records (uid) WHERE uid IS NOT NULL;
DROP INDEX records_key;
CREATE UNIQUE INDEX records_key ON records (key) WHERE key IS NOT NULL;
DROP INDEX registrations_ask;
CREATE UNIQUE INDEX registrations_ask ON registrations (ask) WHERE ask IS NOT NULL;
DROP INDEX disputes_key;
CREATE INDEX disputes_key ON disputes (key) WHERE key IS NOT NULL;
