-- Which model an agent runs on, as its owner named it; both empty when the owner named none. Like all that bounds an
-- agent it can't be changed afterwards.
ALTER TABLE agents
    ADD COLUMN provider text NOT NULL DEFAULT '' CHECK (length(provider) <= 80),
    ADD COLUMN model    text NOT NULL DEFAULT '' CHECK (length(model) <= 80),
    ADD CONSTRAINT agents_model_whole CHECK ((provider = '') = (model = ''));
