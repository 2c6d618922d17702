-- The signed messages that were worked on (MQTT): each counts once, over all
-- servers, for as long as its signing time would let it in.
CREATE TABLE messages (digest BYTEA PRIMARY KEY, at BIGINT NOT NULL);
CREATE INDEX messages_at ON messages (at);
