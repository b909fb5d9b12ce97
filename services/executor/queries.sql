-- write_executions --  where many runs stand; an end wins over a beginning, and over no end but a swept one; returns those for whom that is no news
WITH written AS (
    INSERT INTO executor.executions
        (id, executor_id, function_id, function_name, function_version, input, request_id, created_at, queue_us, started_at, status, output,
         error_type, error, logs, logs_truncated, duration_us, cold_start, memory_peak_bytes, completed_at, created_by)
    SELECT run.id, run.executor_id, run.function_id, run.function_name, run.function_version, run.input, run.request_id,
           executor.moment_of(run.created_at), run.queue_us, executor.moment_of(run.started_at), run.status, run.output,
           run.error_type, run.error, run.logs, run.logs_truncated, run.duration_us, run.cold_start, run.memory_peak_bytes,
           executor.moment_of(run.completed_at), run.created_by
    FROM unnest($1::executor.run[]) AS run
    WHERE NOT EXISTS (SELECT FROM executor.deleted_functions deleted WHERE deleted.function_id = run.function_id)
    ON CONFLICT (id) DO UPDATE
    SET status = excluded.status, output = excluded.output, error_type = excluded.error_type, error = excluded.error, logs = excluded.logs,
        logs_truncated = excluded.logs_truncated, duration_us = excluded.duration_us, cold_start = excluded.cold_start,
        memory_peak_bytes = excluded.memory_peak_bytes, completed_at = excluded.completed_at, queue_us = excluded.queue_us,
        started_at = excluded.started_at, swept = false
    WHERE (excluded.completed_at IS NOT NULL AND (executions.completed_at IS NULL OR executions.swept))
       OR (executions.status = 'PENDING' AND excluded.status = 'RUNNING' AND executions.executor_id = excluded.executor_id)
    RETURNING id
)
SELECT run.id
FROM unnest($1::executor.run[]) AS run
WHERE (SELECT count(*) FROM written) < cardinality($1) AND run.id NOT IN (SELECT written.id FROM written);

-- withdraw_executions --  calls were refused after all; nothing has run
DELETE FROM executor.executions
USING unnest($1::uuid[], $2::uuid[]) AS refused(id, executor_id)
WHERE executions.id = refused.id AND executions.executor_id = refused.executor_id AND (executions.completed_at IS NULL OR executions.swept);

-- find_execution --  one run
SELECT id, function_id, function_name, function_version, status, input, output, error_type, error, logs, logs_truncated, duration_us,
       queue_us, cold_start, memory_peak_bytes, request_id, created_at, started_at, completed_at, created_by
FROM executor.executions
WHERE id = $1;

-- list_executions --  runs of a function older than a key, newest first, as many as fit into a size, but one at least
SELECT id, function_id, function_name, function_version, status, input, output, error_type, error, logs, logs_truncated, duration_us,
       queue_us, cold_start, memory_peak_bytes, request_id, created_at, started_at, completed_at, created_by
FROM executor.executions
WHERE id IN (
    SELECT candidate.id
    FROM (
        SELECT page.id, row_number() OVER newest AS place, sum(page.size) OVER newest AS total
        FROM (
            SELECT e.id, octet_length(e.input) + coalesce(octet_length(e.output), 0) + octet_length(e.logs) + 500 AS size
            FROM executor.executions e
            WHERE e.function_id = $1
              AND ($2::uuid IS NULL OR e.id < $2)
              AND ($3::text IS NULL OR e.status = $3)
              AND ($4::text IS NULL OR (e.error_type = $4 AND e.status = 'FAILED'))
              AND ($5::integer IS NULL OR e.function_version = $5)
              AND ($6::timestamptz IS NULL OR (e.started_at >= $6 AND e.id >= executor.first_id($6 - interval '5 minutes')))
              AND ($7::timestamptz IS NULL OR (e.started_at < $7 AND e.id < executor.first_id($7 + interval '1 millisecond')))
            ORDER BY e.id DESC
            LIMIT $8
        ) page
        WINDOW newest AS (ORDER BY page.id DESC)
    ) candidate
    WHERE candidate.place = 1 OR candidate.total <= $9
)
AND id <= coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
ORDER BY id DESC;

-- create_partitions --  today's partition and those of some days ahead
SELECT executor.create_partition(day::date)
FROM generate_series((now() AT TIME ZONE 'UTC')::date, (now() AT TIME ZONE 'UTC')::date + $1::integer, interval '1 day') AS day;

-- create_partitions_of --  the partitions that ids of these milliseconds belong to
SELECT executor.create_partition(day)
FROM (SELECT DISTINCT (to_timestamp(moment / 1000.0) AT TIME ZONE 'UTC')::date AS day FROM unnest($1::bigint[]) AS moment) AS days
ORDER BY day;

-- heartbeat --  this executor lives
INSERT INTO executor.executors (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET heartbeat_at = now();

-- retire --  this executor ends
DELETE FROM executor.executors WHERE id = $1;

-- sweep_executions --  what silent executors left unfinished has failed, as far as is known
UPDATE executor.executions
SET status = 'FAILED', error_type = 'PLATFORM', error = $2, completed_at = now(), swept = true
WHERE status IN ('PENDING', 'RUNNING')
  AND executor_id NOT IN (SELECT id FROM executor.executors WHERE heartbeat_at > now() - make_interval(secs => $1));

-- forget_executors --  dead executors
DELETE FROM executor.executors WHERE heartbeat_at < now() - make_interval(secs => $1);

-- remember_deletion --  no record of this function may be written any more
INSERT INTO executor.deleted_functions (function_id) VALUES ($1) ON CONFLICT (function_id) DO NOTHING;

-- list_unpurged_functions --  deleted functions that may have history left
SELECT function_id FROM executor.deleted_functions WHERE purged_at IS NULL OR deleted_at > now() - interval '10 minutes';

-- purge_executions --  removes some of a function's history
DELETE FROM executor.executions
WHERE id IN (SELECT id FROM executor.executions WHERE function_id = $1 ORDER BY id DESC LIMIT 500) AND function_id = $1;

-- mark_purged --  a deleted function has no history left
UPDATE executor.deleted_functions SET purged_at = now() WHERE function_id = $1 AND purged_at IS NULL;
