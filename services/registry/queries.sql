-- insert_function --  a new function, unless its name is taken
INSERT INTO registry.functions (
    id, name, description, latest_version, timeout_ms, memory_mb, max_output_bytes, max_log_bytes, max_concurrency, allowed_users,
    allowed_groups, created_by, revision
)
VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10, $11, nextval('registry.revisions'))
ON CONFLICT (name) WHERE deleted_at IS NULL DO NOTHING
RETURNING id;

-- find_function --  one function by id or name, with its latest version
SELECT f.id, f.name, f.description, f.latest_version, f.live_version, f.promote_above, f.timeout_ms, f.memory_mb, f.max_output_bytes,
       f.max_log_bytes, f.max_concurrency, f.allowed_users, f.allowed_groups, f.created_by, f.revision, f.edition, f.created_at, f.updated_at,
       v.language, v.source, v.status, v.compile_error, v.diagnostics,
       (
           SELECT coalesce(jsonb_agg(jsonb_build_object(
               'id', e.id, 'name', e.name, 'allowed_users', e.allowed_users, 'allowed_groups', e.allowed_groups
           ) ORDER BY r.position), '[]')
           FROM registry.function_environments r JOIN registry.environments e ON e.id = r.environment_id WHERE r.function_id = f.id
       ) AS environments
FROM registry.functions f
JOIN registry.versions v ON v.function_id = f.id AND v.version = f.latest_version
WHERE f.deleted_at IS NULL AND (f.id = $1::uuid OR f.name = $2::text);

-- lock_function --  holds one function against other changes until the transaction ends
SELECT id FROM registry.functions WHERE deleted_at IS NULL AND (id = $1::uuid OR name = $2::text) FOR UPDATE;

-- list_functions --  functions older than a key that a viewer may access, newest first, without sources
SELECT f.id, f.name, f.description, f.latest_version, f.live_version, f.promote_above, f.timeout_ms, f.memory_mb, f.max_output_bytes,
       f.max_log_bytes, f.max_concurrency, f.allowed_users, f.allowed_groups, f.created_by, f.revision, f.edition, f.created_at, f.updated_at,
       v.language, NULL::text AS source, v.status, v.compile_error, '[]'::jsonb AS diagnostics,
       (
           SELECT coalesce(jsonb_agg(jsonb_build_object(
               'id', e.id, 'name', e.name, 'allowed_users', e.allowed_users, 'allowed_groups', e.allowed_groups
           ) ORDER BY r.position), '[]')
           FROM registry.function_environments r JOIN registry.environments e ON e.id = r.environment_id WHERE r.function_id = f.id
       ) AS environments
FROM registry.functions f
JOIN registry.versions v ON v.function_id = f.id AND v.version = f.latest_version
WHERE f.deleted_at IS NULL AND ($1::uuid IS NULL OR f.id < $1)
  AND ($3::boolean OR f.allowed_users = '{}' AND f.allowed_groups = '{}' OR $4::text = ANY (f.allowed_users) OR f.allowed_groups && $5::text[])
  AND ($6::text[] = '{}' OR f.id::text = ANY ($6))
ORDER BY f.id DESC
LIMIT $2;

-- update_function --  new description, limits, access and latest number
UPDATE registry.functions
SET description = $2, timeout_ms = $3, memory_mb = $4, max_output_bytes = $5, max_log_bytes = $6, max_concurrency = $7,
    latest_version = $8, allowed_users = $9, allowed_groups = $10, edition = edition + 1, revision = nextval('registry.revisions'), updated_at = now()
WHERE id = $1;

-- touch_function --  the outcome of one of its versions changed
UPDATE registry.functions SET revision = nextval('registry.revisions'), updated_at = now() WHERE id = $1 AND deleted_at IS NULL;

-- roll_back_function --  points live at a READY version; those that exist now no longer take over by themselves
UPDATE registry.functions
SET live_version = $2, promote_above = latest_version, edition = edition + 1, revision = nextval('registry.revisions'), updated_at = now()
WHERE id = $1;

-- promote_version --  points live at a version that became READY, upwards only
UPDATE registry.functions
SET live_version = $2
WHERE id = $1 AND deleted_at IS NULL AND $2 > coalesce(live_version, 0) AND $2 > promote_above;

-- delete_function --  turns a function into a tombstone
UPDATE registry.functions
SET deleted_at = now(), live_version = NULL, revision = nextval('registry.revisions'), updated_at = now()
WHERE id = $1
RETURNING revision;

-- insert_version --  the next version of a function
INSERT INTO registry.versions (function_id, version, language, source, wasm, created_by, status) VALUES ($1, $2, $3, $4, $5, $6, 'PENDING');

-- find_code --  what one version is made from
SELECT language, source, wasm FROM registry.versions WHERE function_id = $1 AND version = $2;

-- find_version --  one version, with its source but not its module
SELECT function_id, version, language, source, status, build, failure_reason, compile_error, diagnostics, artifact_digest, artifact_bytes,
       abi, queue_ms, build_ms, created_at, started_at, completed_at, created_by
FROM registry.versions
WHERE function_id = $1 AND version = $2;

-- list_versions --  versions below a number, highest first, without sources
SELECT function_id, version, language, NULL::text AS source, status, build, failure_reason, compile_error, '[]'::jsonb AS diagnostics,
       artifact_digest, artifact_bytes, abi, queue_ms, build_ms, created_at, started_at, completed_at, created_by
FROM registry.versions
WHERE function_id = $1 AND ($2::integer IS NULL OR version < $2)
ORDER BY version DESC
LIMIT $3;

-- reset_version --  a FAILED version waits for another build
UPDATE registry.versions
SET status = 'PENDING', build = build + 1, failure_reason = NULL, compile_error = '', diagnostics = '[]', queue_ms = NULL, build_ms = NULL,
    started_at = NULL, completed_at = NULL
WHERE function_id = $1 AND version = $2 AND status = 'FAILED'
RETURNING build;

-- set_job --  which message carries a version's build
UPDATE registry.versions SET job_id = $3, queued_at = now() WHERE function_id = $1 AND version = $2;

-- find_language --  what was last announced of a language
SELECT id, name, available, install_hint FROM registry.languages WHERE id = $1;

-- hear_language --  what a message announces of a language, unless a newer one was heard
INSERT INTO registry.languages (id, name, available, install_hint, message_id)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name, available = excluded.available, install_hint = excluded.install_hint, message_id = excluded.message_id
WHERE languages.message_id < excluded.message_id;

-- start_version --  the compiler has begun this build
UPDATE registry.versions
SET status = 'COMPILING', started_at = now(), queue_ms = $4
WHERE function_id = $1 AND version = $2 AND build = $3 AND status = 'PENDING';

-- complete_version --  the build's artifact is stored
UPDATE registry.versions
SET status = 'READY', artifact_digest = $4, artifact_bytes = $5, abi = $6, diagnostics = $7, queue_ms = $8, build_ms = $9,
    started_at = coalesce(started_at, now()), completed_at = now()
WHERE function_id = $1 AND version = $2 AND build = $3 AND status IN ('PENDING', 'COMPILING');

-- fail_version --  the build did not make an artifact
UPDATE registry.versions
SET status = 'FAILED', failure_reason = $4, compile_error = $5, diagnostics = $6, queue_ms = coalesce($7, queue_ms), build_ms = $8,
    completed_at = now()
WHERE function_id = $1 AND version = $2 AND build = $3 AND status IN ('PENDING', 'COMPILING');

-- list_waiting_builds --  builds of a function whose job nobody has taken; the jobs are held until the transaction ends
SELECT v.version, v.build, v.job_id
FROM registry.versions v
JOIN pgmq.q_compilation_jobs q ON q.msg_id = v.job_id
WHERE v.function_id = $1 AND v.status = 'PENDING' AND q.vt <= clock_timestamp()
FOR UPDATE OF q SKIP LOCKED;

-- archive_job --  takes a job out of the queue
SELECT pgmq.archive('compilation_jobs', $1::bigint);

-- list_lost_builds --  unfinished builds that have neither a job nor a result on its way
SELECT v.function_id, v.version, v.build
FROM registry.versions v
JOIN registry.functions f ON f.id = v.function_id AND f.deleted_at IS NULL
WHERE v.status IN ('PENDING', 'COMPILING')
  AND v.queued_at < now() - make_interval(secs => $1)
  AND NOT EXISTS (SELECT FROM pgmq.q_compilation_jobs q WHERE q.msg_id = v.job_id)
  AND NOT EXISTS (
      SELECT FROM pgmq.q_compilation_results r
      WHERE r.message ->> 'function_id' = v.function_id::text AND (r.message ->> 'version')::integer = v.version
        AND r.message ->> 'type' = 'FINISHED'
  )
ORDER BY v.queued_at
LIMIT 100
FOR UPDATE OF v SKIP LOCKED;

-- watched_functions --  what executors know of functions: all of them, or one
SELECT f.id, f.name, f.revision, f.deleted_at IS NOT NULL AS deleted, f.timeout_ms, f.memory_mb, f.max_output_bytes, f.max_log_bytes,
       f.max_concurrency, f.allowed_users, f.allowed_groups, f.live_version, v.artifact_digest, v.abi,
       ARRAY (SELECT r.environment_id FROM registry.function_environments r WHERE r.function_id = f.id ORDER BY r.position) AS environments
FROM registry.functions f
LEFT JOIN registry.versions v ON v.function_id = f.id AND v.version = f.live_version
WHERE $1::uuid IS NULL OR f.id = $1;

-- purge_versions --  removes some versions of deleted functions, highest first
DELETE FROM registry.versions
WHERE (function_id, version) IN (
    SELECT v.function_id, v.version
    FROM registry.versions v
    JOIN registry.functions f ON f.id = v.function_id AND f.deleted_at IS NOT NULL
    ORDER BY v.function_id, v.version DESC
    LIMIT 500
);

-- purge_functions --  removes tombstones that every executor has had time to see
DELETE FROM registry.functions f
WHERE f.deleted_at < now() - make_interval(secs => $1)
  AND NOT EXISTS (SELECT FROM registry.versions v WHERE v.function_id = f.id);

-- insert_environment --  a new environment, unless its name is taken
INSERT INTO registry.environments (id, name, description, allowed_users, allowed_groups, created_by, revision)
VALUES ($1, $2, $3, $4, $5, $6, nextval('registry.revisions'))
ON CONFLICT (name) WHERE deleted_at IS NULL DO NOTHING
RETURNING id;

-- find_environment --  one environment by id or name, with its variables
SELECT e.id, e.name, e.description, e.allowed_users, e.allowed_groups, e.created_by, e.revision, e.edition, e.created_at, e.updated_at,
       v.names, v.secrets, v.sealed
FROM registry.environments e
CROSS JOIN LATERAL (
    SELECT array_agg(name) AS names, array_agg(secret) AS secrets, array_agg(sealed) AS sealed
    FROM registry.variables WHERE environment_id = e.id
) v
WHERE e.deleted_at IS NULL AND (e.id = $1::uuid OR e.name = $2::text);

-- lock_environment --  holds one environment against other changes until the transaction ends
SELECT id FROM registry.environments WHERE deleted_at IS NULL AND (id = $1::uuid OR name = $2::text) FOR UPDATE;

-- list_environments --  environments older than a key that a viewer may access, newest first, without variables
SELECT id, name, description, allowed_users, allowed_groups, created_by, revision, edition, created_at, updated_at
FROM registry.environments
WHERE deleted_at IS NULL AND ($1::uuid IS NULL OR id < $1)
  AND ($3::boolean OR allowed_users = '{}' AND allowed_groups = '{}' OR $4::text = ANY (allowed_users) OR allowed_groups && $5::text[])
ORDER BY id DESC
LIMIT $2;

-- update_environment --  new description and access
UPDATE registry.environments
SET description = $2, allowed_users = $3, allowed_groups = $4, edition = edition + 1, revision = nextval('registry.revisions'), updated_at = now()
WHERE id = $1;

-- delete_environment --  turns an environment into a tombstone
UPDATE registry.environments
SET deleted_at = now(), revision = nextval('registry.revisions'), updated_at = now()
WHERE id = $1
RETURNING revision;

-- put_variable --  one variable of an environment
INSERT INTO registry.variables (environment_id, name, secret, sealed)
VALUES ($1, $2, $3, $4)
ON CONFLICT (environment_id, name) DO UPDATE SET secret = excluded.secret, sealed = excluded.sealed;

-- delete_variables --  some variables of an environment; all where no names are given
DELETE FROM registry.variables WHERE environment_id = $1 AND ($2::text[] IS NULL OR name = ANY ($2));

-- list_readers --  names of functions that read an environment
SELECT f.name
FROM registry.function_environments r
JOIN registry.functions f ON f.id = r.function_id
WHERE r.environment_id = $1
ORDER BY f.name
LIMIT $2;

-- find_environments --  environments by ids or names, which nobody deletes until the transaction ends
SELECT id, name, allowed_users, allowed_groups
FROM registry.environments
WHERE deleted_at IS NULL AND (id = ANY ($1::uuid[]) OR name = ANY ($2::text[]))
FOR SHARE;

-- read_nothing --  a function reads no environment any more
DELETE FROM registry.function_environments WHERE function_id = $1;

-- read_environments --  a function reads these, in this order
INSERT INTO registry.function_environments (function_id, environment_id, position)
SELECT $1, one, place FROM unnest($2::uuid[]) WITH ORDINALITY AS read (one, place);

-- watched_environments --  what executors know of environments: all of them, or one
SELECT e.id, e.name, e.revision, e.deleted_at IS NOT NULL AS deleted, v.names, v.secrets, v.sealed
FROM registry.environments e
CROSS JOIN LATERAL (
    SELECT array_agg(name) AS names, array_agg(secret) AS secrets, array_agg(sealed) AS sealed
    FROM registry.variables WHERE environment_id = e.id
) v
WHERE $1::uuid IS NULL OR e.id = $1;

-- read_by --  what executors know of the environments that a function reads
SELECT e.id, e.name, e.revision, false AS deleted, v.names, v.secrets, v.sealed
FROM registry.function_environments r
JOIN registry.environments e ON e.id = r.environment_id
CROSS JOIN LATERAL (
    SELECT array_agg(name) AS names, array_agg(secret) AS secrets, array_agg(sealed) AS sealed
    FROM registry.variables WHERE environment_id = e.id
) v
WHERE r.function_id = $1;

-- list_keys --  names of the keys that values are sealed with
SELECT DISTINCT substring(sealed FROM 1 FOR $1::integer) AS key FROM registry.variables;

-- list_sealed --  variables behind a key that are sealed with some key, in order
SELECT environment_id, name, secret, sealed
FROM registry.variables
WHERE (environment_id, name) > ($1::uuid, $2::text) AND substring(sealed FROM 1 FOR $4::integer) = ANY ($3::bytea[])
ORDER BY environment_id, name
LIMIT 100
FOR UPDATE SKIP LOCKED;

-- purge_environments --  removes tombstones that every executor has had time to see
DELETE FROM registry.environments WHERE deleted_at < now() - make_interval(secs => $1);
