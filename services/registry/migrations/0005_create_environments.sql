-- Named sets of variables that functions read.
CREATE TABLE registry.environments (
    id uuid PRIMARY KEY, -- UUIDv7
    name text NOT NULL CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    description text NOT NULL,
    allowed_users text[] NOT NULL,
    allowed_groups text[] NOT NULL,
    created_by text NOT NULL,
    revision bigint NOT NULL,
    -- Counts updates: what an etag shows.
    edition integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- Deleted environments stay as tombstones for a while, without their values, so that executors that were away learn of it.
    deleted_at timestamptz
);

CREATE UNIQUE INDEX environments_name ON registry.environments (name) WHERE deleted_at IS NULL;
CREATE INDEX environments_deleted ON registry.environments (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE registry.variables (
    environment_id uuid NOT NULL REFERENCES registry.environments (id) ON DELETE CASCADE,
    name text NOT NULL CHECK (name ~ '^[A-Za-z_][A-Za-z0-9_]{0,127}$'),
    -- Whether its value is for functions alone.
    secret boolean NOT NULL,
    -- Its value, sealed for this row.
    sealed bytea NOT NULL,
    PRIMARY KEY (environment_id, name)
);

-- What a function reads; of a variable in two environments the value of the one with the higher position.
CREATE TABLE registry.function_environments (
    function_id uuid NOT NULL REFERENCES registry.functions (id) ON DELETE CASCADE,
    environment_id uuid NOT NULL REFERENCES registry.environments (id),
    position integer NOT NULL CHECK (position > 0),
    PRIMARY KEY (function_id, position),
    UNIQUE (function_id, environment_id)
);

CREATE INDEX function_environments_environment ON registry.function_environments (environment_id);
