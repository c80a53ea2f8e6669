-- Which keys a namespace has, and since when, without a look at each claim; and when they last changed, without a look at
-- those that were never approved.
CREATE INDEX claims_keys ON claims (namespace, status, public_key, approved_at) WHERE status = 'approved';
CREATE INDEX claims_changed ON claims (namespace, decided_at) WHERE approved_at IS NOT NULL;

-- Tells a change from another of the same number: a database that was put back from a copy gives its numbers again. The tag of
-- the last change that was forgotten is kept for readers who stand there.
ALTER TABLE feed_events ADD COLUMN tag TEXT NOT NULL DEFAULT '';
ALTER TABLE feed_head ADD COLUMN oldest_tag TEXT NOT NULL DEFAULT '';
