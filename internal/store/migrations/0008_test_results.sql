-- What rigs found when they tested units, and the latest of it on the device.
CREATE TABLE test_results (
    id BIGINT PRIMARY KEY, at BIGINT NOT NULL, device_id BIGINT NOT NULL, operator TEXT NOT NULL,
    body TEXT NOT NULL, leaf BIGINT NOT NULL
);
CREATE INDEX test_results_device ON test_results (device_id);
ALTER TABLE devices ADD COLUMN test_id BIGINT NOT NULL DEFAULT 0;
