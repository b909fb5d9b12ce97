-- A run on its way into the history; times are microseconds since 1970. A batch is one array of these: an array for each column, and
-- times that the executor must make and the driver must take apart, cost twice as much.
CREATE TYPE executor.run AS (
    id uuid,
    executor_id uuid,
    function_id uuid,
    function_name text,
    function_version integer,
    input bytea,
    request_id text,
    created_at bigint,
    queue_us integer,
    started_at bigint,
    status text,
    output bytea,
    error_type text,
    error bytea,
    logs bytea,
    logs_truncated boolean,
    duration_us integer,
    cold_start boolean,
    memory_peak_bytes integer,
    completed_at bigint,
    created_by text
);

-- The time of so many microseconds since 1970; exact until 2255.
CREATE FUNCTION executor.moment_of(micros bigint) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT timestamptz 'epoch' + micros * interval '1 microsecond'
$$;
