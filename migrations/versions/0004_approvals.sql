-- Signatures that approvers gave to a version of a suggestion, kept until they are enough for the engine. A row is no
-- authority: the engine verifies each signature again.
CREATE TABLE suggestion_signatures (
    suggestion_id text NOT NULL,
    version       bigint NOT NULL,
    account_id    text NOT NULL REFERENCES accounts,
    user_id       text NOT NULL,
    key_id        text NOT NULL,
    method        text NOT NULL,
    signature     bytea NOT NULL,
    viewed_at     timestamptz,
    signed_at     timestamptz NOT NULL,
    PRIMARY KEY (suggestion_id, version, user_id),
    FOREIGN KEY (suggestion_id, version) REFERENCES suggestions (id, version)
);

-- The first look of each person who may decide.
CREATE TABLE suggestion_views (
    suggestion_id text NOT NULL,
    version       bigint NOT NULL,
    account_id    text NOT NULL REFERENCES accounts,
    user_id       text NOT NULL,
    viewed_at     timestamptz NOT NULL,
    PRIMARY KEY (suggestion_id, version, user_id),
    FOREIGN KEY (suggestion_id, version) REFERENCES suggestions (id, version)
);

ALTER TABLE suggestions
    ADD COLUMN approvals_due integer,                  -- as the engine last told it; NULL until it has
    ADD COLUMN edited_by     text NOT NULL DEFAULT ''; -- whose change made this version; empty for the first

GRANT SELECT, INSERT, DELETE ON suggestion_signatures TO veloz_api;
GRANT SELECT, INSERT ON suggestion_views TO veloz_api;

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['suggestion_signatures', 'suggestion_views'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY account_scope ON %I TO veloz_api USING (account_in_scope(account_id)) '
                       'WITH CHECK (account_in_scope(account_id))', name);
    END LOOP;
END $$;
