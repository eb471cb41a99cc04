-- The schema that everything else stands on. Run by the owner role; roles are created by the launcher beforehand:
-- veloz_owner (owns, migrates), veloz_api (the service), veloz_audit_writer (may only insert into the inbox),
-- veloz_ledger (numbers the audit log, projects the engine's journal). Nothing runs as superuser.

CREATE SCHEMA audit;

CREATE TABLE firms (
    id   text PRIMARY KEY,
    name text NOT NULL
);
CREATE TABLE desks (
    id      text PRIMARY KEY,
    firm_id text NOT NULL REFERENCES firms,
    name    text NOT NULL
);
CREATE TABLE accounts (
    id            text PRIMARY KEY,
    desk_id       text NOT NULL REFERENCES desks,
    name          text NOT NULL,
    venue         text NOT NULL,
    sub_account   text NOT NULL DEFAULT '',
    key_reference text NOT NULL,
    mode          text NOT NULL CHECK (mode IN ('PAPER', 'LIVE')),
    time_zone     text NOT NULL DEFAULT 'UTC'
);
CREATE TABLE users (
    id            text PRIMARY KEY,
    firm_id       text NOT NULL REFERENCES firms,
    username      text NOT NULL UNIQUE,
    display_name  text NOT NULL,
    password_hash text NOT NULL,
    role          text NOT NULL CHECK (role IN ('trader', 'approver', 'compliance')),
    disabled_at   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE account_grants (
    user_id    text NOT NULL REFERENCES users,
    account_id text NOT NULL REFERENCES accounts,
    PRIMARY KEY (user_id, account_id)
);
CREATE TABLE refresh_tokens (
    id         text PRIMARY KEY,
    family_id  text NOT NULL,
    user_id    text NOT NULL REFERENCES users,
    token_hash bytea NOT NULL UNIQUE,
    issued_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    rotated_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id);

-- The public half of each approver's key. The engine's own roster decides; this is for display and early refusal.
CREATE TABLE approver_keys (
    key_id     text PRIMARY KEY,
    user_id    text NOT NULL REFERENCES users,
    public_key bytea NOT NULL,
    label      text NOT NULL,
    paper_only boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz
);

CREATE TABLE runs (
    id          text PRIMARY KEY,
    thread_id   text NOT NULL,
    user_id     text NOT NULL REFERENCES users,
    account_id  text NOT NULL REFERENCES accounts,
    trace_id    text NOT NULL,
    status      text NOT NULL CHECK (status IN ('running', 'finished', 'interrupted', 'failed', 'cancelled')),
    model       text,
    question    text NOT NULL, -- redacted, both tiers
    outcome     jsonb,         -- {answer, figures, tool_calls, suggestion_id, usage} or {code, message}
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);
CREATE INDEX runs_trace ON runs (trace_id);
CREATE INDEX runs_thread ON runs (thread_id, created_at);

-- Released tool results, redacted, sealed with AES-256-GCM under the results key; figures resolve here.
CREATE TABLE tool_results (
    call_id    text PRIMARY KEY,
    run_id     text,
    trace_id   text NOT NULL,
    user_id    text NOT NULL,
    account_id text, -- NULL when the result holds no account's data
    tool       text NOT NULL,
    digest     bytea NOT NULL,
    nonce      bytea NOT NULL,
    ciphertext bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX tool_results_run ON tool_results (run_id);

-- One row a version. proposal holds the exact canonical bytes; status from consumed on is a projection of the
-- engine's journal, written by the ledger.
CREATE TABLE suggestions (
    id              text NOT NULL,
    version         bigint NOT NULL CHECK (version > 0),
    account_id      text NOT NULL REFERENCES accounts,
    asker_id        text NOT NULL,
    run_id          text NOT NULL,
    trace_id        text NOT NULL,
    status          text NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'expired', 'superseded',
                                                    'consumed', 'executed', 'failed', 'needs_review')),
    proposal        bytea NOT NULL,
    digest          text NOT NULL,
    pre_trade       jsonb NOT NULL,  -- checks, what-if and market shown at the time
    rationale       text NOT NULL DEFAULT '', -- redacted
    expires_at      timestamptz NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    viewed_at       timestamptz,
    decided_at      timestamptz,
    decided_by      text,
    decision_reason text,
    refusal_code    text,
    client_order_id text,
    PRIMARY KEY (id, version)
);
CREATE INDEX suggestions_pending ON suggestions (account_id, created_at DESC);

-- Projections of the engine's journal, written only by the ledger; idempotent by journal sequence.
CREATE TABLE projection_cursors (
    name      text NOT NULL,
    engine_id text NOT NULL,
    sequence  bigint NOT NULL,
    PRIMARY KEY (name, engine_id)
);
CREATE TABLE orders (
    client_order_id  text PRIMARY KEY,
    account_id       text NOT NULL,
    suggestion_id    text,
    trace_id         text,
    venue            text NOT NULL,
    symbol           text NOT NULL,
    side             text NOT NULL,
    order_type       text NOT NULL,
    time_in_force    text NOT NULL,
    quantity         numeric NOT NULL,
    price            numeric,
    filled_quantity  numeric NOT NULL DEFAULT 0,
    filled_notional  numeric NOT NULL DEFAULT 0,
    status           text NOT NULL,
    venue_order_id   text,
    refusal          jsonb,
    engine_id        text NOT NULL,
    created_sequence bigint NOT NULL,
    updated_sequence bigint NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL
);
CREATE INDEX orders_account ON orders (account_id, created_at DESC);
CREATE TABLE fills (
    venue           text NOT NULL,
    symbol          text NOT NULL,
    trade_id        bigint NOT NULL,
    account_id      text NOT NULL,
    client_order_id text NOT NULL,
    trace_id        text,
    side            text NOT NULL,
    price           numeric NOT NULL,
    quantity        numeric NOT NULL,
    fee             numeric NOT NULL,
    fee_asset       text NOT NULL,
    is_maker        boolean NOT NULL,
    inferred        boolean NOT NULL,
    engine_id       text NOT NULL,
    sequence        bigint NOT NULL,
    traded_at       timestamptz NOT NULL,
    PRIMARY KEY (venue, symbol, trade_id, account_id)
);
CREATE INDEX fills_order ON fills (client_order_id);
CREATE TABLE positions (
    account_id    text NOT NULL,
    venue         text NOT NULL,
    symbol        text NOT NULL,
    quantity      numeric NOT NULL,
    average_price numeric NOT NULL,
    realised_pnl  numeric NOT NULL,
    fees          numeric NOT NULL,
    engine_id     text NOT NULL,
    sequence      bigint NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (account_id, venue, symbol)
);

-- Trade reviews: one for each closed position.
CREATE TABLE reviews (
    id          text PRIMARY KEY,
    position_id text NOT NULL UNIQUE,
    account_id  text NOT NULL,
    symbol      text NOT NULL,
    facts       jsonb NOT NULL,
    narrative   text NOT NULL, -- redacted
    embedder    text NOT NULL,
    embedding   vector(384) NOT NULL,
    search_text tsvector GENERATED ALWAYS AS (to_tsvector('english', narrative)) STORED,
    closed_at   timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX reviews_embedding ON reviews USING hnsw (embedding vector_cosine_ops);
CREATE INDEX reviews_search_text ON reviews USING gin (search_text);

-- Audit. Writers insert into the inbox and may do nothing else; the ledger numbers what arrived.
CREATE TABLE audit.person_keys (
    person     text PRIMARY KEY, -- the person's stable pseudonym
    wrapped    bytea,            -- the person's AES key under the key-encryption key; NULL once erased
    nonce      bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    erased_at  timestamptz
);
CREATE TABLE audit.inbox (
    arrival        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    record_id      text NOT NULL UNIQUE,
    record         bytea NOT NULL,
    leaf_hash      bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
    occurred_at_ns bigint NOT NULL,
    actor          text NOT NULL,
    action         text NOT NULL,
    resource       text NOT NULL,
    outcome        text NOT NULL,
    trace_id       text NOT NULL,
    account_id     text,
    run_id         text,
    suggestion_id  text,
    received_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX inbox_trace ON audit.inbox (trace_id, occurred_at_ns);
CREATE INDEX inbox_run ON audit.inbox (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX inbox_suggestion ON audit.inbox (suggestion_id) WHERE suggestion_id IS NOT NULL;
CREATE TABLE audit.log (
    sequence    bigint PRIMARY KEY, -- the leaf index, from 0 and without gaps
    record_id   text NOT NULL UNIQUE REFERENCES audit.inbox (record_id),
    leaf_hash   bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
    numbered_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit records are append-only: % on %.% is refused', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER inbox_append_only BEFORE UPDATE OR DELETE ON audit.inbox
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER inbox_no_truncate BEFORE TRUNCATE ON audit.inbox
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER log_append_only BEFORE UPDATE OR DELETE ON audit.log
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER log_no_truncate BEFORE TRUNCATE ON audit.log
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();

-- A writer has its transaction id before it draws an arrival number. So once every transaction that is older than a
-- moment has ended, all arrivals up to the highest one seen at that moment are there to be read: the ledger numbers
-- them in order and without gaps, however many writers there are.
CREATE FUNCTION audit.begin_arrival() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_current_xact_id();
    RETURN NULL;
END $$;
CREATE TRIGGER inbox_transaction_before_arrival BEFORE INSERT ON audit.inbox
    FOR EACH STATEMENT EXECUTE FUNCTION audit.begin_arrival();

-- Privileges: deny by default.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO veloz_api, veloz_ledger, veloz_audit_writer;
GRANT USAGE ON SCHEMA audit TO veloz_api, veloz_ledger, veloz_audit_writer;
GRANT SELECT ON firms, desks, accounts, users, account_grants, approver_keys TO veloz_api;
GRANT SELECT, INSERT, UPDATE ON refresh_tokens, runs, suggestions TO veloz_api;
GRANT SELECT, INSERT ON tool_results TO veloz_api;
GRANT SELECT ON orders, fills, positions, reviews, projection_cursors TO veloz_api;
GRANT SELECT ON audit.inbox, audit.log TO veloz_api;
GRANT SELECT, INSERT ON audit.person_keys TO veloz_api, veloz_ledger;
GRANT INSERT ON audit.inbox TO veloz_audit_writer;
GRANT SELECT ON accounts, users TO veloz_ledger;
GRANT SELECT, INSERT, UPDATE ON projection_cursors, orders, fills, positions, reviews TO veloz_ledger;
GRANT SELECT, UPDATE ON suggestions TO veloz_ledger;
GRANT SELECT, INSERT ON audit.inbox, audit.log TO veloz_ledger;

-- Row-level security: the api sees the accounts that the session names, nothing when it names none. The setting is
-- local to a transaction: SELECT set_config('veloz.account_ids', 'acct-1,acct-2', true).
CREATE FUNCTION account_in_scope(account_id text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT account_id = ANY (string_to_array(coalesce(current_setting('veloz.account_ids', true), ''), ','))
$$;
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['runs', 'suggestions', 'orders', 'fills', 'positions', 'reviews'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY account_scope ON %I TO veloz_api USING (account_in_scope(account_id)) '
                       'WITH CHECK (account_in_scope(account_id))', name);
        EXECUTE format('CREATE POLICY ledger_all ON %I TO veloz_ledger USING (true) WITH CHECK (true)', name);
    END LOOP;
    ALTER TABLE tool_results ENABLE ROW LEVEL SECURITY;
    CREATE POLICY account_scope ON tool_results TO veloz_api
        USING (account_id IS NULL OR account_in_scope(account_id))
        WITH CHECK (account_id IS NULL OR account_in_scope(account_id));
    ALTER TABLE audit.inbox ENABLE ROW LEVEL SECURITY;
    CREATE POLICY write_any ON audit.inbox FOR INSERT TO veloz_audit_writer, veloz_ledger WITH CHECK (true);
    CREATE POLICY ledger_reads ON audit.inbox FOR SELECT TO veloz_ledger USING (true);
    CREATE POLICY account_scope ON audit.inbox FOR SELECT TO veloz_api
        USING (account_id IS NULL OR account_in_scope(account_id));
END $$;
