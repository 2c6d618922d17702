-- What status responders say of certificates, as it changed: the last row of
-- a serial number counts, and one without a row is good. reason is the
-- CRLReason (RFC 5280 §5.3.1), 8 for good again. seq grows in the order of
-- the commits.
CREATE TABLE statuses (
    seq BIGINT PRIMARY KEY, serial BYTEA NOT NULL, issuer BIGINT NOT NULL, reason SMALLINT NOT NULL,
    revoked BIGINT NOT NULL, not_after BIGINT NOT NULL
);
-- Which of issuing_cas signed it, 0 for the device CA; whether it is on hold
-- until its first use; the certificate that ends with that.
ALTER TABLE certificates ADD COLUMN issuer BIGINT NOT NULL DEFAULT 0;
ALTER TABLE certificates ADD COLUMN held SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE certificates ADD COLUMN supersedes BIGINT NOT NULL DEFAULT 0;
UPDATE certificates SET held = 1
WHERE NOT EXISTS (SELECT 1 FROM first_uses u WHERE u.certificate_id = certificates.id)
  AND EXISTS (SELECT 1 FROM records rec JOIN products p ON p.id = rec.product_id WHERE rec.id = certificates.device_id AND p.body LIKE '%"holdUntilActive":true%');
UPDATE certificates SET supersedes =
  (SELECT MAX(f.id) FROM certificates f WHERE f.device_id = certificates.device_id AND f.id < certificates.id AND f.state IN ('superseded', 'on-hold'))
WHERE EXISTS (SELECT 1 FROM certificates f WHERE f.device_id = certificates.device_id AND f.id < certificates.id AND f.state IN ('superseded', 'on-hold'));
INSERT INTO statuses (seq, serial, issuer, reason, revoked, not_after)
SELECT h.next_id - 1 + ROW_NUMBER() OVER (ORDER BY x.id), x.serial, 0, x.reason, x.revoked, x.not_after FROM (
  SELECT c.id, c.serial, c.reason, c.revoked, c.not_after FROM certificates c WHERE c.state IN ('revoked', 'on-hold')
  UNION ALL
  SELECT c.id, c.serial, 6, c.issued, c.not_after FROM certificates c WHERE c.state = 'valid' AND c.held = 1
  UNION ALL
  SELECT c.id, c.serial, 4, MIN(u.at), c.not_after FROM certificates c
    JOIN certificates n ON n.device_id = c.device_id AND n.supersedes = c.id JOIN first_uses u ON u.certificate_id = n.id
    WHERE c.state = 'superseded' GROUP BY c.id, c.serial, c.not_after
) x CROSS JOIN log_head h;
UPDATE log_head SET next_id = (SELECT MAX(seq) + 1 FROM statuses) WHERE EXISTS (SELECT 1 FROM statuses);
