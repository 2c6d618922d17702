-- Each finalized order asks what certificate its account was given last for
-- the name, each new one how many of its account are open: neither is to read
-- all orders that the account ever had.
DROP INDEX acme_orders_name;
CREATE INDEX acme_orders_name ON acme_orders (name, account_id, id);
CREATE INDEX acme_orders_open ON acme_orders (account_id, expires) WHERE status IN ('pending', 'ready');
