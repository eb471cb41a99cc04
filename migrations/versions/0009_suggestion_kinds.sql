-- What a suggestion proposes; from consumed on as the engine's journal says it. An order's suggestion follows its order,
-- one that changes an order follows the change.
ALTER TABLE suggestions
    ADD COLUMN kind text NOT NULL DEFAULT 'order'
        CHECK (kind IN ('order', 'close', 'hedge', 'bracket', 'amend', 'cancel', 'kill_switch', 'strategy_change'));
CREATE INDEX suggestions_of_order ON suggestions (client_order_id) WHERE client_order_id IS NOT NULL;
