-- A suggestion may end several orders: which those are, once it was approved. It is executed when none of them is open.
ALTER TABLE suggestions ADD COLUMN cancels text[];
CREATE INDEX suggestions_cancelling ON suggestions USING gin (cancels)
    WHERE cancels IS NOT NULL AND status IN ('consumed', 'needs_review');
