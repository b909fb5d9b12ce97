-- Running executors. One whose heartbeat is old is dead, and what it ran is swept.
CREATE TABLE executor.executors (
    id uuid PRIMARY KEY,
    heartbeat_at timestamptz NOT NULL DEFAULT now()
);

-- Functions whose history must go, and into which no late record may be written.
CREATE TABLE executor.deleted_functions (
    function_id uuid PRIMARY KEY,
    deleted_at timestamptz NOT NULL DEFAULT now(),
    purged_at timestamptz
);

-- One row a run, by day: a UUIDv7 carries its time, so that the primary key both holds over all days and finds the day.
CREATE TABLE executor.executions (
    id uuid PRIMARY KEY,
    function_id uuid NOT NULL,
    function_name text NOT NULL,
    function_version integer NOT NULL,
    -- PENDING: waits for a worker → RUNNING; RUNNING → COMPLETED | FAILED; those two never change again
    status text NOT NULL CHECK (status IN ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED')),
    -- JSON text as bytes, exactly as given and answered. jsonb would refuse \u0000 and rewrite numbers.
    input bytea NOT NULL,
    output bytea,
    error_type text,
    -- JSON as bytes, since messages may hold NUL characters: {"message": …, "stack": […]} and [{"level": …, "message": …}].
    error bytea,
    logs bytea NOT NULL DEFAULT '[]',
    logs_truncated boolean NOT NULL DEFAULT false,
    duration_us integer,
    queue_us integer NOT NULL DEFAULT 0,
    cold_start boolean NOT NULL DEFAULT false,
    memory_peak_bytes integer,
    request_id text NOT NULL,
    executor_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    completed_at timestamptz,
    CHECK ((status = 'COMPLETED') = (output IS NOT NULL)),
    CHECK ((status = 'FAILED') = (error_type IS NOT NULL AND error IS NOT NULL)),
    CHECK ((status IN ('COMPLETED', 'FAILED')) = (completed_at IS NOT NULL))
) PARTITION BY RANGE (id);

CREATE INDEX executions_history ON executor.executions (function_id, id DESC);
CREATE INDEX executions_unfinished ON executor.executions (executor_id) WHERE status IN ('PENDING', 'RUNNING');

-- The smallest UUIDv7 of a moment.
CREATE FUNCTION executor.first_id(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Makes the partition of a day, if it is missing. Attaching does not hold up readers and writers of the others, as creating in place would.
CREATE FUNCTION executor.create_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    partition text := 'executions_' || to_char(day, 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('executor.create_partition'));
    IF to_regclass('executor.' || partition) IS NULL THEN
        EXECUTE format('CREATE TABLE executor.%I (LIKE executor.executions INCLUDING ALL)', partition);
        EXECUTE format(
            'ALTER TABLE executor.executions ATTACH PARTITION executor.%I FOR VALUES FROM (%L) TO (%L)',
            partition,
            executor.first_id(day::timestamp AT TIME ZONE 'UTC'),
            executor.first_id((day + 1)::timestamp AT TIME ZONE 'UTC')
        );
    END IF;
END
$$;
