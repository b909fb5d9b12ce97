-- Failed runs are few, and people look for them: without this a page of them reads past all the others of the function, to the end of the
-- history where there are none. Days have it that begin after this; to read through those that are there would hold up the executor's start.
CREATE FUNCTION executor.index_failed(partition text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS %I ON executor.%I (function_id, id DESC) WHERE status = ''FAILED''', partition || '_failed', partition
    );
END
$$;

CREATE OR REPLACE FUNCTION executor.create_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    partition text := 'executions_' || to_char(day, 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('executor.create_partition'));
    IF to_regclass('executor.' || partition) IS NULL THEN
        EXECUTE format('CREATE TABLE executor.%I (LIKE executor.executions INCLUDING ALL)', partition);
        PERFORM executor.index_failed(partition);
        EXECUTE format(
            'ALTER TABLE executor.executions ATTACH PARTITION executor.%I FOR VALUES FROM (%L) TO (%L)',
            partition,
            executor.first_id(day::timestamp AT TIME ZONE 'UTC'),
            executor.first_id((day + 1)::timestamp AT TIME ZONE 'UTC')
        );
    END IF;
END
$$;

-- Those that were made ahead are empty.
SELECT executor.index_failed(relname::text)
FROM pg_partition_tree('executor.executions') JOIN pg_class ON oid = relid
WHERE isleaf AND relname > 'executions_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD');
