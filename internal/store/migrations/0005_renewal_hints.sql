-- When an operator wants a certificate to be renewed.
CREATE TABLE renewal_hints (certificate_id BIGINT PRIMARY KEY, starts BIGINT NOT NULL, ends BIGINT NOT NULL);
