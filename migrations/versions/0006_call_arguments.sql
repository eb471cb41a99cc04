-- Sealed like the result itself: nonce, then ciphertext. NULL for results of earlier releases: nothing in those vouches
-- for an argument of a suggestion.
ALTER TABLE tool_results ADD COLUMN arguments bytea;

-- What a caller outside of runs was lately shown.
CREATE INDEX tool_results_caller ON tool_results (user_id, created_at) WHERE run_id IS NULL;
