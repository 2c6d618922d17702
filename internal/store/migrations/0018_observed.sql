-- What brokers saw of a device, as JSON: the last few sightings, in place.
CREATE TABLE observed (device_id BIGINT PRIMARY KEY, last BIGINT NOT NULL, body TEXT NOT NULL);
