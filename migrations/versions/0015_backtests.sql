-- One row a job. Whoever runs it renews lease_until; a job whose lease is over was lost with its process.
CREATE TABLE backtests (
    id               text PRIMARY KEY,
    account_id       text NOT NULL REFERENCES accounts,
    user_id          text NOT NULL,
    status           text NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'stopped')),
    strategy         text NOT NULL,
    symbol           text NOT NULL,
    bar_interval     text NOT NULL,
    specification    jsonb NOT NULL,
    tries            integer NOT NULL CHECK (tries > 0),
    progress_percent smallint NOT NULL DEFAULT 0 CHECK (progress_percent BETWEEN 0 AND 100),
    stop_requested   boolean NOT NULL DEFAULT false,
    lease_until      timestamptz NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at      timestamptz,
    report           jsonb,
    report_digest    text,
    refusal          jsonb,
    CHECK ((finished_at IS NULL) = (status IN ('queued', 'running'))),
    CHECK ((report IS NOT NULL) = (status = 'done'))
);
CREATE INDEX backtests_by_account ON backtests (account_id, id DESC);
CREATE INDEX backtests_tries ON backtests (account_id, user_id, symbol, bar_interval);

GRANT SELECT, INSERT, DELETE, UPDATE (status, progress_percent, stop_requested, lease_until, finished_at, report,
                                      report_digest, refusal) ON backtests TO veloz_api;
ALTER TABLE backtests ENABLE ROW LEVEL SECURITY;
CREATE POLICY account_scope ON backtests TO veloz_api USING (account_in_scope(account_id))
    WITH CHECK (account_in_scope(account_id));
