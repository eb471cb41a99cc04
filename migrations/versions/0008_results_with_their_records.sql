-- Still nothing but INSERT for the audit writer, and of a result nothing that it could choose the time of. The results
-- come sealed under a key that it doesn't hold: a row that it makes up opens for nobody.
GRANT INSERT (call_id, run_id, trace_id, user_id, account_id, tool, digest, nonce, ciphertext, arguments, expires_at)
    ON tool_results TO veloz_audit_writer;
CREATE POLICY released_with_their_records ON tool_results FOR INSERT TO veloz_audit_writer WITH CHECK (true);

-- The api reads results; none of its statements writes one any more.
REVOKE INSERT ON tool_results FROM veloz_api;
