-- A privilege on the whole table lets INSERT ... OVERRIDING SYSTEM VALUE set the arrival: one row that is numbered far
-- ahead, and nothing after it would ever be numbered into the log. received_at is the database's to say, too.
REVOKE INSERT ON audit.inbox FROM veloz_audit_writer, veloz_ledger;
GRANT INSERT (record_id, record, leaf_hash, occurred_at_ns, actor, action, resource, outcome, trace_id, account_id,
              run_id, suggestion_id)
    ON audit.inbox TO veloz_audit_writer, veloz_ledger;

-- The ledger's records have ids that follow from the journal, with colons in them, and a record that is there already
-- stays. So no one else may put one there before the ledger does.
DROP POLICY write_any ON audit.inbox;
CREATE POLICY ledger_writes ON audit.inbox FOR INSERT TO veloz_ledger WITH CHECK (true);
CREATE POLICY own_records ON audit.inbox FOR INSERT TO veloz_audit_writer
    WITH CHECK (strpos(record_id, ':') = 0 AND NOT starts_with(actor, 'engine:'));

-- The ledger reads no user.
REVOKE SELECT ON users FROM veloz_ledger;
