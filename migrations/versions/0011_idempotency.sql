-- One row a key for a day. call_id leads to the released result, which with its stamp is what the second request gets;
-- stamp is NULL until the first is answered, and holds nobody's data.
CREATE TABLE idempotency_keys (
    principal_id   text NOT NULL,
    key            text NOT NULL,
    request_digest bytea NOT NULL CHECK (octet_length(request_digest) = 32),
    call_id        text NOT NULL,
    stamp          jsonb,
    claimed_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (principal_id, key)
);
GRANT SELECT, INSERT, DELETE, UPDATE (stamp) ON idempotency_keys TO veloz_api;
