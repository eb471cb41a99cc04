-- What a client sent as the assistant's earlier words and this service didn't write in that thread: text from outside,
-- redacted. What a suggestion of the thread is made of has to come from somewhere else.
ALTER TABLE runs ADD COLUMN foreign_history text[] NOT NULL DEFAULT '{}';
