-- A run on its way into the history. A batch is one array of these: as an array a column it would cost both sides nearly twice the time.
CREATE TYPE executor.run AS (
    id uuid,
    executor_id uuid,
    function_id uuid,
    function_name text,
    function_version integer,
    input bytea,
    request_id text,
    created_at timestamptz,
    queue_us integer,
    started_at timestamptz,
    status text,
    output bytea,
    error_type text,
    error bytea,
    logs bytea,
    logs_truncated boolean,
    duration_us integer,
    cold_start boolean,
    memory_peak_bytes integer,
    completed_at timestamptz,
    created_by text
);
