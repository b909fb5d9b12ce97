-- Every change that executors must know of takes the next revision.
CREATE SEQUENCE registry.revisions;

CREATE TABLE registry.functions (
    id uuid PRIMARY KEY, -- UUIDv7
    name text NOT NULL CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    description text NOT NULL,
    latest_version integer NOT NULL CHECK (latest_version > 0),
    -- What serves; NULL until a version is READY, and again once the function is deleted.
    live_version integer,
    -- A version that becomes READY moves the live pointer only when its number is above this one: a rollback sets it to the latest number.
    promote_above integer NOT NULL DEFAULT 0,
    timeout_ms integer NOT NULL CHECK (timeout_ms > 0),
    memory_mb integer NOT NULL CHECK (memory_mb > 0),
    max_output_bytes integer NOT NULL CHECK (max_output_bytes > 0),
    max_log_bytes integer NOT NULL CHECK (max_log_bytes >= 0),
    revision bigint NOT NULL,
    -- Counts updates and rollbacks: what an etag shows.
    edition integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- Deleted functions stay as tombstones for a while, so that executors that were away learn of it.
    deleted_at timestamptz,
    CHECK (deleted_at IS NULL OR live_version IS NULL)
);

CREATE UNIQUE INDEX functions_name ON registry.functions (name) WHERE deleted_at IS NULL;
CREATE INDEX functions_deleted ON registry.functions (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE registry.versions (
    function_id uuid NOT NULL REFERENCES registry.functions (id),
    version integer NOT NULL CHECK (version > 0),
    language text NOT NULL,
    source text NOT NULL,
    -- PENDING:   accepted, its job is in the queue                 → COMPILING, READY, FAILED
    -- COMPILING: the compiler has begun                            → READY, FAILED
    -- READY:     has an artifact; never changes again
    -- FAILED:    has a reason                                      → PENDING by building again
    status text NOT NULL CHECK (status IN ('PENDING', 'COMPILING', 'READY', 'FAILED')),
    -- Which attempt of a user at this version; results of earlier ones are too late.
    build integer NOT NULL DEFAULT 1,
    -- The message that carries the build's job.
    job_id bigint,
    failure_reason text,
    compile_error text NOT NULL DEFAULT '',
    diagnostics jsonb NOT NULL DEFAULT '[]',
    artifact_digest text,
    artifact_bytes integer,
    abi text,
    queue_ms integer,
    build_ms integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- When its job was last sent.
    queued_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    completed_at timestamptz,
    PRIMARY KEY (function_id, version),
    CHECK ((status = 'READY') = (artifact_digest IS NOT NULL AND artifact_bytes IS NOT NULL AND abi IS NOT NULL)),
    CHECK ((status = 'FAILED') = (failure_reason IS NOT NULL)),
    -- Numbers have no holes: every version but the first follows one.
    previous_version integer GENERATED ALWAYS AS (nullif(version - 1, 0)) STORED,
    FOREIGN KEY (function_id, previous_version) REFERENCES registry.versions (function_id, version),
    -- What a live pointer may point at.
    ready_version integer GENERATED ALWAYS AS (CASE WHEN status = 'READY' THEN version END) STORED,
    UNIQUE (function_id, ready_version)
);

ALTER TABLE registry.functions
    ADD FOREIGN KEY (id, live_version) REFERENCES registry.versions (function_id, ready_version);

CREATE INDEX versions_unfinished ON registry.versions (queued_at) WHERE status IN ('PENDING', 'COMPILING');
