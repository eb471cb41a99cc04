-- Token buckets that all api processes take from, in millionths of a token. Unlogged: after a crash they are full, and
-- taking from one waits for no disk.
CREATE UNLOGGED TABLE rate_buckets (
    kind         text NOT NULL CHECK (kind IN ('principal_tool', 'principal', 'tool', 'account')),
    owner        text NOT NULL,
    tool         text NOT NULL,
    micro_tokens bigint NOT NULL CHECK (micro_tokens >= 0),
    refilled_at  timestamptz NOT NULL,
    PRIMARY KEY (kind, owner, tool)
);

-- Refills and takes, for each of p_wants in turn: callers send them in one order, so that two of them don't wait for
-- each other. What is needed is granted as far as it goes; beyond it, a p_share-th of what is there, at most `most`.
CREATE FUNCTION rate_take(p_wants jsonb, p_share integer)
    RETURNS TABLE (granted bigint, left_micro bigint)
    LANGUAGE plpgsql SET search_path = public AS
$$
#variable_conflict use_column
DECLARE
    w       record;
    v_at    timestamptz;
    v_then  timestamptz;
    v_micro bigint;
    v_whole bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    FOR w IN
        SELECT e.value -> 'key' ->> 'kind' AS kind, e.value -> 'key' ->> 'owner' AS owner,
               e.value -> 'key' ->> 'tool' AS tool, (e.value -> 'size' ->> 'burst_tokens')::bigint * 1000000 AS full_micro,
               (e.value -> 'size' ->> 'tokens_per_s')::bigint AS tokens_per_s, (e.value ->> 'needed')::bigint AS needed,
               (e.value ->> 'most')::bigint AS most
        FROM jsonb_array_elements(p_wants) WITH ORDINALITY AS e (value, number)
        ORDER BY e.number
    LOOP
        INSERT INTO rate_buckets (kind, owner, tool, micro_tokens, refilled_at)
        VALUES (w.kind, w.owner, w.tool, w.full_micro, clock_timestamp())
        ON CONFLICT (kind, owner, tool) DO NOTHING;
        SELECT b.micro_tokens, b.refilled_at INTO v_micro, v_then
        FROM rate_buckets b
        WHERE b.kind = w.kind AND b.owner = w.owner AND b.tool = w.tool
        FOR UPDATE;
        -- A clock that stepped back refills nothing. Whole microseconds times tokens a second are millionths of one.
        v_at := clock_timestamp();
        v_micro := least(w.full_micro, v_micro + trunc(greatest(0, extract(epoch FROM v_at - v_then)) * 1000000)
                                                 * w.tokens_per_s);
        v_whole := v_micro / 1000000;
        granted := least(v_whole, greatest(w.needed, least(w.most, v_whole / p_share)));
        left_micro := v_micro - granted * 1000000;
        UPDATE rate_buckets b SET micro_tokens = left_micro, refilled_at = v_at
        WHERE b.kind = w.kind AND b.owner = w.owner AND b.tool = w.tool;
        RETURN NEXT;
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON rate_buckets TO veloz_api;
REVOKE EXECUTE ON FUNCTION rate_take(jsonb, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rate_take(jsonb, integer) TO veloz_api;
