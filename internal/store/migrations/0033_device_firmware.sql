-- What devices were last seen to run.
CREATE TABLE device_firmware (device_id BIGINT PRIMARY KEY, product_id BIGINT NOT NULL, version TEXT NOT NULL, counter BIGINT NOT NULL, at BIGINT NOT NULL);
CREATE INDEX device_firmware_counter ON device_firmware (product_id, counter);
CREATE INDEX device_firmware_version ON device_firmware (product_id, version);
