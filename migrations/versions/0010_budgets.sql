-- What was used of each budget, and what processes hold of it for what they are about to do. Whoever changes a budget
-- locks its row of budget_use first, so what was used and what is held are seen together.
CREATE TABLE budget_use (
    scope      text NOT NULL CHECK (scope IN ('run', 'user_day', 'firm_day')),
    owner      text NOT NULL,
    day        text NOT NULL, -- ISO, in the policy's time zone; empty for a run
    measure    text NOT NULL CHECK (measure IN ('calls', 'tokens', 'micro_usd', 'ms')),
    used       bigint NOT NULL CHECK (used >= 0),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, owner, day, measure)
);
CREATE INDEX budget_use_changed ON budget_use (changed_at);

CREATE TABLE budget_leases (
    scope      text NOT NULL,
    owner      text NOT NULL,
    day        text NOT NULL,
    measure    text NOT NULL,
    holder     text NOT NULL, -- one life of one process
    held       bigint NOT NULL CHECK (held > 0),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (scope, owner, day, measure, holder),
    FOREIGN KEY (scope, owner, day, measure) REFERENCES budget_use ON DELETE CASCADE
);

-- Reports use, gives back, renews and leases, for each of p_wants in turn: callers send them in one order, so that two
-- of them don't wait for each other. What was used is counted also beyond a limit; nothing is granted beyond one.
CREATE FUNCTION budget_sync(p_holder text, p_wants jsonb, p_ttl_s integer)
    RETURNS TABLE (granted bigint, held bigint, committed bigint)
    LANGUAGE plpgsql SET search_path = public AS
$$
#variable_conflict use_column
DECLARE
    w        record;
    v_used   bigint;
    v_others bigint;
    v_mine   bigint;
    v_free   bigint;
    v_wish   bigint;
    v_granted bigint;
BEGIN
    FOR w IN
        SELECT e.value ->> 'scope' AS scope, e.value ->> 'owner' AS owner, e.value ->> 'day' AS day,
               e.value ->> 'measure' AS measure, (e.value ->> 'limit')::bigint AS bound,
               (e.value ->> 'used')::bigint AS used, (e.value ->> 'returned')::bigint AS returned,
               (e.value ->> 'wanted')::bigint AS wanted, (e.value ->> 'at_least')::bigint AS at_least,
               (e.value ->> 'share')::bigint AS share
        FROM jsonb_array_elements(p_wants) WITH ORDINALITY AS e (value, number)
        ORDER BY e.number
    LOOP
        INSERT INTO budget_use AS u (scope, owner, day, measure, used)
        VALUES (w.scope, w.owner, w.day, w.measure, w.used)
        ON CONFLICT (scope, owner, day, measure)
            DO UPDATE SET used = u.used + excluded.used, changed_at = clock_timestamp()
        RETURNING u.used INTO v_used;

        DELETE FROM budget_leases l
        WHERE l.scope = w.scope AND l.owner = w.owner AND l.day = w.day AND l.measure = w.measure
          AND l.expires_at <= clock_timestamp();
        SELECT coalesce(sum(l.held) FILTER (WHERE l.holder <> p_holder), 0),
               coalesce(sum(l.held) FILTER (WHERE l.holder = p_holder), 0)
        INTO v_others, v_mine
        FROM budget_leases l
        WHERE l.scope = w.scope AND l.owner = w.owner AND l.day = w.day AND l.measure = w.measure;

        v_mine := greatest(0, v_mine - w.used - w.returned);
        v_free := greatest(0, w.bound - v_used - v_others - v_mine);
        v_wish := greatest(w.at_least, least(w.wanted, v_free / w.share));
        v_granted := CASE WHEN v_wish > 0 AND v_wish <= v_free THEN v_wish ELSE 0 END;
        v_mine := v_mine + v_granted;
        IF v_mine = 0 THEN
            DELETE FROM budget_leases l
            WHERE l.scope = w.scope AND l.owner = w.owner AND l.day = w.day AND l.measure = w.measure
              AND l.holder = p_holder;
        ELSE
            INSERT INTO budget_leases AS l (scope, owner, day, measure, holder, held, expires_at)
            VALUES (w.scope, w.owner, w.day, w.measure, p_holder, v_mine,
                    clock_timestamp() + make_interval(secs => p_ttl_s))
            ON CONFLICT (scope, owner, day, measure, holder)
                DO UPDATE SET held = excluded.held, expires_at = excluded.expires_at;
        END IF;
        granted := v_granted;
        held := v_mine;
        committed := v_used + v_others + v_mine;
        RETURN NEXT;
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON budget_use, budget_leases TO veloz_api;
REVOKE EXECUTE ON FUNCTION budget_sync(text, jsonb, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION budget_sync(text, jsonb, integer) TO veloz_api;
