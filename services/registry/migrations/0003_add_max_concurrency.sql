-- How many runs of a function there may be at once. Functions that were there before get what new ones get where nothing else is set.
ALTER TABLE registry.functions ADD COLUMN max_concurrency integer NOT NULL DEFAULT 256 CHECK (max_concurrency > 0);

-- New rows say it themselves, as they do their other limits.
ALTER TABLE registry.functions ALTER COLUMN max_concurrency DROP DEFAULT;
