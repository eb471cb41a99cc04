-- Projections hold nothing that the journal doesn't. Those of earlier releases lack what is added here, so they are
-- emptied and their cursors put back: the ledger projects the journal again from its first entry. Suggestions, reviews
-- and the audit inbox stay: for them the same entries change nothing.
DELETE FROM orders;
DELETE FROM fills;
DELETE FROM positions;
UPDATE projection_cursors SET sequence = 0;

ALTER TABLE orders
    ADD COLUMN strategy_id         text NOT NULL DEFAULT '',
    ADD COLUMN post_only           boolean NOT NULL DEFAULT false,
    ADD COLUMN reduce_only         boolean NOT NULL DEFAULT false,
    ADD COLUMN stop_price          numeric,
    ADD COLUMN activation_price    numeric,
    ADD COLUMN trailing_offset_bps integer,
    ADD COLUMN extreme_price       numeric, -- the best price that a trailing stop has seen
    ADD COLUMN trigger_price       numeric, -- where a held order's condition came true
    ADD COLUMN armed_quantity      numeric, -- of a bracket's child: what its parent has filled; NULL for all
    ADD COLUMN expires_at          timestamptz, -- GTD
    ADD COLUMN price_scale         integer NOT NULL,
    ADD COLUMN quantity_scale      integer NOT NULL,
    ADD COLUMN group_id            text, -- legs of which one cancels the other
    ADD COLUMN role                text, -- entry, take_profit, stop
    ADD COLUMN parent_id           text,
    ADD COLUMN replaces            text, -- the order whose amendment this is
    ADD COLUMN authority           text NOT NULL,
    ADD COLUMN authority_id        text NOT NULL,
    ADD COLUMN authority_record    jsonb NOT NULL,
    ADD COLUMN notional_quote      numeric,
    ADD COLUMN rules_version       bigint,
    ADD COLUMN checks              jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN market              jsonb,
    ADD COLUMN detail              text, -- why it is UNKNOWN, or was closed
    ADD COLUMN cancel_requested_by text,
    ADD COLUMN amendment           jsonb; -- asked for, and not yet confirmed by the venue
CREATE INDEX orders_group ON orders (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX orders_parent ON orders (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX orders_open ON orders (account_id)
    WHERE status NOT IN ('FILLED', 'CANCELED', 'REJECTED', 'EXPIRED');

-- Both sides of a self-trade carry one trade id.
ALTER TABLE fills
    ADD COLUMN strategy_id text NOT NULL DEFAULT '',
    DROP CONSTRAINT fills_pkey,
    ADD PRIMARY KEY (venue, symbol, trade_id, account_id, client_order_id);

CREATE TABLE strategy_positions (
    account_id    text NOT NULL,
    venue         text NOT NULL,
    symbol        text NOT NULL,
    strategy_id   text NOT NULL, -- empty for a human's orders
    quantity      numeric NOT NULL,
    average_price numeric NOT NULL,
    realised_pnl  numeric NOT NULL,
    fees          numeric NOT NULL,
    state         text NOT NULL, -- what the next fill is added to, in scaled integers
    engine_id     text NOT NULL,
    sequence      bigint NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (account_id, venue, symbol, strategy_id)
);
CREATE TABLE consumed_approvals (
    engine_id       text NOT NULL,
    suggestion_id   text NOT NULL,
    version         bigint NOT NULL,
    digest          text NOT NULL,
    account_id      text NOT NULL,
    asker_id        text NOT NULL,
    client_order_id text,  -- NULL when risk refused at send
    refusal         jsonb,
    checks          jsonb NOT NULL,
    signatures      jsonb NOT NULL,
    sequence        bigint NOT NULL,
    consumed_at     timestamptz NOT NULL,
    PRIMARY KEY (engine_id, suggestion_id)
);
CREATE TABLE order_refusals (
    engine_id        text NOT NULL,
    sequence         bigint NOT NULL,
    account_id       text NOT NULL,
    venue            text NOT NULL,
    symbol           text NOT NULL,
    request          text NOT NULL,
    authority        text NOT NULL,
    authority_id     text NOT NULL,
    authority_record jsonb NOT NULL,
    code             text NOT NULL,
    refusal          jsonb NOT NULL,
    checks           jsonb NOT NULL,
    market           jsonb NOT NULL,
    rules_version    bigint NOT NULL,
    refused_at       timestamptz NOT NULL,
    PRIMARY KEY (engine_id, sequence)
);
CREATE INDEX order_refusals_account ON order_refusals (account_id, refused_at DESC);
CREATE TABLE balances (
    account_id text NOT NULL,
    venue      text NOT NULL,
    asset      text NOT NULL,
    total      numeric NOT NULL, -- free and locked together; zero once the venue no longer shows it
    engine_id  text NOT NULL,
    sequence   bigint NOT NULL,
    as_of      timestamptz NOT NULL,
    PRIMARY KEY (account_id, venue, asset)
);
CREATE TABLE equity (
    account_id       text NOT NULL,
    day              date NOT NULL, -- the account's own calendar day
    day_start_equity numeric NOT NULL,
    peak_equity      numeric NOT NULL,
    equity           numeric NOT NULL,
    engine_id        text NOT NULL,
    sequence         bigint NOT NULL,
    updated_at       timestamptz NOT NULL,
    PRIMARY KEY (account_id, day)
);
CREATE TABLE funding (
    account_id     text NOT NULL,
    venue          text NOT NULL,
    symbol         text NOT NULL,
    transaction_id text NOT NULL,
    amount         numeric NOT NULL, -- negative when it was paid
    asset          text NOT NULL,
    engine_id      text NOT NULL,
    sequence       bigint NOT NULL,
    settled_at     timestamptz NOT NULL,
    PRIMARY KEY (account_id, venue, symbol, transaction_id)
);
CREATE TABLE trading_sessions (
    session_id   text PRIMARY KEY,
    user_id      text NOT NULL,
    account_ids  text[] NOT NULL,
    session_grant jsonb NOT NULL,
    signature    jsonb NOT NULL,
    orders       bigint NOT NULL DEFAULT 0,
    notional_quote numeric NOT NULL DEFAULT 0,
    engine_id    text NOT NULL,
    sequence     bigint NOT NULL,
    opened_at    timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    closed_at    timestamptz,
    closed_by    text,
    close_reason text
);
CREATE TABLE mandates (
    mandate_id    text PRIMARY KEY,
    account_id    text NOT NULL,
    strategy_id   text NOT NULL,
    digest        text NOT NULL,
    mandate       jsonb NOT NULL,
    signatures    jsonb NOT NULL,
    orders        bigint NOT NULL DEFAULT 0,
    notional_quote numeric NOT NULL DEFAULT 0,
    engine_id     text NOT NULL,
    sequence      bigint NOT NULL,
    installed_at  timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    revoked_at    timestamptz,
    revoked_by    text,
    revoke_reason text
);
CREATE TABLE risk_rules (
    engine_id      text NOT NULL,
    version        bigint NOT NULL,
    digest         text NOT NULL,
    document       text NOT NULL,
    authority      text NOT NULL, -- start: what the engine's own file held at its start
    authority_id   text NOT NULL,
    authority_record jsonb,
    rolled_back_to bigint,
    sequence       bigint NOT NULL,
    installed_at   timestamptz NOT NULL,
    PRIMARY KEY (engine_id, version)
);
CREATE TABLE kill_switch_changes (
    engine_id    text NOT NULL,
    sequence     bigint NOT NULL,
    account_id   text NOT NULL, -- empty for the whole engine
    state        text NOT NULL,
    requested_by text NOT NULL,
    reason       text NOT NULL,
    authority    text NOT NULL,
    authority_id text NOT NULL,
    changed_at   timestamptz NOT NULL,
    PRIMARY KEY (engine_id, sequence)
);
CREATE TABLE freeze_changes (
    engine_id    text NOT NULL,
    sequence     bigint NOT NULL,
    account_id   text NOT NULL,
    frozen       boolean NOT NULL,
    reason       text NOT NULL,
    authority    text NOT NULL,
    authority_id text NOT NULL,
    changed_at   timestamptz NOT NULL,
    PRIMARY KEY (engine_id, sequence)
);
CREATE TABLE reconciliations (
    engine_id    text NOT NULL,
    sequence     bigint NOT NULL,
    account_id   text NOT NULL,
    venue        text NOT NULL,
    cause        text NOT NULL,
    differences  jsonb NOT NULL,
    reconciled_at timestamptz NOT NULL,
    PRIMARY KEY (engine_id, sequence)
);

-- Only the ledger writes; it may empty projections, because rebuilding starts with that.
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['strategy_positions', 'consumed_approvals', 'order_refusals', 'balances', 'equity',
                                'funding', 'trading_sessions', 'mandates', 'risk_rules', 'kill_switch_changes',
                                'freeze_changes', 'reconciliations'] LOOP
        EXECUTE format('GRANT SELECT ON %I TO veloz_api', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO veloz_ledger', name);
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY ledger_all ON %I TO veloz_ledger USING (true) WITH CHECK (true)', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['strategy_positions', 'consumed_approvals', 'order_refusals', 'balances', 'equity',
                                'funding', 'mandates', 'freeze_changes', 'reconciliations'] LOOP
        EXECUTE format('CREATE POLICY account_scope ON %I TO veloz_api USING (account_in_scope(account_id))', name);
    END LOOP;
    CREATE POLICY account_scope ON trading_sessions TO veloz_api USING (
        account_ids && string_to_array(coalesce(current_setting('veloz.account_ids', true), ''), ','));
    -- What binds every account may be seen by whoever has one.
    CREATE POLICY account_scope ON kill_switch_changes TO veloz_api
        USING (account_id = '' OR account_in_scope(account_id));
    CREATE POLICY account_scope ON risk_rules TO veloz_api
        USING (coalesce(current_setting('veloz.account_ids', true), '') <> '');
END $$;
GRANT DELETE ON orders, fills, positions TO veloz_ledger;
