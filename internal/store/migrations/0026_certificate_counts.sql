-- How many certificates an issuing CA (0 is the device CA) issued that run out
-- in the course of a day, which is counted from 1970. It tells, without
-- reading certificates, what a CA still has in the field.
CREATE TABLE certificate_counts (
    issuer BIGINT NOT NULL, ends BIGINT NOT NULL, issued BIGINT NOT NULL, PRIMARY KEY (issuer, ends)
);
INSERT INTO certificate_counts (issuer, ends, issued)
SELECT issuer, not_after / 86400000000, COUNT(*) FROM certificates GROUP BY issuer, not_after / 86400000000;
