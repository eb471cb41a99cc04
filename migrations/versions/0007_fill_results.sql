-- What a fill made and cost in the quote asset, so that profit and fees can be told by day. NULL for fills that were
-- projected before: `veloz rebuild` measures them from the journal.
ALTER TABLE fills
    ADD COLUMN fee_quote             numeric, -- NULL also for a fee in an asset without a value in the quote asset
    ADD COLUMN realised_pnl          numeric, -- of the account's position, before fees
    ADD COLUMN strategy_realised_pnl numeric; -- of the strategy's own position
CREATE INDEX fills_account ON fills (account_id, sequence DESC);
CREATE INDEX fills_traded ON fills (account_id, traded_at);
