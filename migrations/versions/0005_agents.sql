-- account_ids and tools bound the agent; what its owner may do bounds it too, looked up at each call. secret_hash is
-- SHA-256 of 32 random bytes. A row is never deleted: audit records name it.
CREATE TABLE agents (
    id            text PRIMARY KEY,
    owner_id      text NOT NULL REFERENCES users,
    name          text NOT NULL,
    account_ids   text[] NOT NULL,
    tools         text[] NOT NULL CHECK (cardinality(tools) > 0),
    secret_hash   bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at    timestamptz NOT NULL,
    last_token_at timestamptz,
    revoked_at    timestamptz,
    revoked_by    text REFERENCES users
);
CREATE UNIQUE INDEX agents_name ON agents (owner_id, name) WHERE revoked_at IS NULL;

-- What an agent is bounded by can't be widened afterwards: only its end and its last token are ever written.
GRANT SELECT, INSERT, UPDATE (last_token_at, revoked_at, revoked_by) ON agents TO veloz_api;
