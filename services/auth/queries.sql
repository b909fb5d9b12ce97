-- next_revision --  holds all other changes until the transaction ends, and numbers it
UPDATE auth.revision SET revision = revision + 1 RETURNING revision;

-- write_changes --  access tokens of these subjects that are older are not to be taken any more
INSERT INTO auth.changes (subject_id, revision)
SELECT DISTINCT subject_id, $2::bigint FROM unnest($1::uuid[]) AS subjects (subject_id)
ON CONFLICT (subject_id) DO UPDATE SET revision = excluded.revision, changed_at = excluded.changed_at;

-- changes_since --  the newest revision, beside each change since one; one row with neither subject nor revision when there is none
SELECT r.revision AS newest, c.subject_id, c.revision
FROM auth.revision r
LEFT JOIN auth.changes c ON c.revision > $1
ORDER BY c.revision, c.subject_id;

-- caller_stands --  whether what an access token says of its caller still holds
SELECT EXISTS (
    SELECT FROM auth.users u
    WHERE u.id = $1 AND NOT u.disabled AND u.role IN ($2, 'ADMIN')
      AND ($3::uuid IS NULL OR EXISTS (SELECT FROM auth.sessions s WHERE s.id = $3 AND s.user_id = u.id AND s.expires_at > $5))
      AND ($4::uuid IS NULL OR EXISTS (
          SELECT FROM auth.api_keys k WHERE k.id = $4 AND k.user_id = u.id AND k.revoked_at IS NULL AND k.expires_at > $5
      ))
);

-- insert_user --  a new user, unless its name is taken
INSERT INTO auth.users (id, name, role, password_hash) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING;

-- find_user --  one user by id or name
SELECT u.id, u.name, u.role, u.disabled, array(SELECT m.group_id FROM auth.members m WHERE m.user_id = u.id ORDER BY m.group_id) AS groups,
       u.password_hash IS NOT NULL AS has_password, coalesce(u.issuer, '') AS issuer, u.created_at, u.updated_at
FROM auth.users u
WHERE u.id = $1::uuid OR u.name = $2::text;

-- find_user_of --  the user that an identity provider knows by a subject
SELECT u.id, u.name, u.role, u.disabled, array(SELECT m.group_id FROM auth.members m WHERE m.user_id = u.id ORDER BY m.group_id) AS groups,
       u.password_hash IS NOT NULL AS has_password, coalesce(u.issuer, '') AS issuer, u.created_at, u.updated_at
FROM auth.users u
WHERE u.issuer = $1 AND u.subject = $2;

-- insert_user_of --  a new user of an identity provider, unless its name is taken
INSERT INTO auth.users (id, name, role, issuer, subject, claims_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING;

-- note_claims --  what was said then counts, unless something later does
UPDATE auth.users SET claims_at = $2 WHERE id = $1 AND claims_at <= $2;

-- has_later_claims --  whether what is known of a user was said after that
SELECT EXISTS (SELECT FROM auth.users WHERE id = $1 AND claims_at > $2);

-- set_role --  a new role
UPDATE auth.users SET role = $2, updated_at = now() WHERE id = $1;

-- find_groups --  of these names those that there are
SELECT id FROM auth.groups WHERE name = ANY ($1::text[]) ORDER BY name LIMIT $2;

-- leave_other_groups --  a user stays in these alone
DELETE FROM auth.members WHERE user_id = $1 AND group_id <> ALL ($2::uuid[]);

-- join_groups --  a user is in these
INSERT INTO auth.members (group_id, user_id) SELECT g.id, $1 FROM auth.groups g WHERE g.id = ANY ($2::uuid[]) ON CONFLICT DO NOTHING;

-- spend_login --  unless it has gone on before
INSERT INTO auth.spent_logins (digest, ends_at) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- list_users --  users older than a key, newest first
SELECT u.id, u.name, u.role, u.disabled, array(SELECT m.group_id FROM auth.members m WHERE m.user_id = u.id ORDER BY m.group_id) AS groups,
       u.password_hash IS NOT NULL AS has_password, coalesce(u.issuer, '') AS issuer, u.created_at, u.updated_at
FROM auth.users u
WHERE $1::uuid IS NULL OR u.id < $1
ORDER BY u.id DESC
LIMIT $2;

-- update_user --  new role, state and password; no password leaves the one it has
UPDATE auth.users
SET role = $2, disabled = $3, password_hash = coalesce($4, password_hash), updated_at = now()
WHERE id = $1;

-- delete_user --  with memberships, sessions and API keys
DELETE FROM auth.users WHERE id = $1;

-- an_admin_is_left --  whether anyone can administer
SELECT EXISTS (SELECT FROM auth.users WHERE role = 'ADMIN' AND NOT disabled);

-- find_password --  the hash by which an enabled user, named by id or name, signs in
SELECT id, name, password_hash FROM auth.users WHERE NOT disabled AND (id = $1::uuid OR name = $2::text);

-- replace_password --  unless it is no longer the one that was verified
UPDATE auth.users SET password_hash = $3, updated_at = now() WHERE id = $1 AND password_hash = $2;

-- insert_group --  a new group, unless its name is taken
INSERT INTO auth.groups (id, name, description) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING;

-- find_group --  one group by id or name
SELECT id, name, description, created_at, updated_at FROM auth.groups WHERE id = $1::uuid OR name = $2::text;

-- list_groups --  groups older than a key, newest first
SELECT id, name, description, created_at, updated_at
FROM auth.groups
WHERE $1::uuid IS NULL OR id < $1
ORDER BY id DESC
LIMIT $2;

-- update_group --  a new description
UPDATE auth.groups SET description = $2, updated_at = now() WHERE id = $1;

-- delete_group --  with its memberships
DELETE FROM auth.groups WHERE id = $1;

-- member_ids --  everyone in a group
SELECT user_id FROM auth.members WHERE group_id = $1;

-- list_members --  the users in a group older than a key, newest first
SELECT u.id, u.name, u.role, u.disabled, array(SELECT o.group_id FROM auth.members o WHERE o.user_id = u.id ORDER BY o.group_id) AS groups,
       u.password_hash IS NOT NULL AS has_password, coalesce(u.issuer, '') AS issuer, u.created_at, u.updated_at
FROM auth.members m
JOIN auth.users u ON u.id = m.user_id
WHERE m.group_id = $1 AND ($2::uuid IS NULL OR u.id < $2)
ORDER BY u.id DESC
LIMIT $3;

-- add_member --  who is in it already stays
INSERT INTO auth.members (group_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- remove_member --  whoever is in it
DELETE FROM auth.members WHERE group_id = $1 AND user_id = $2;

-- begin_session --  unless the user no longer has the password that was verified, or none; holds it against changes meanwhile
INSERT INTO auth.sessions (id, user_id, secret_digest, created_at, expires_at, ends_at, last_used_at, address, user_agent)
SELECT $1, u.id, $4, $5, $6, $7, $5, $8, $9
FROM auth.users u
WHERE u.id = $2 AND NOT u.disabled AND u.password_hash IS NOT DISTINCT FROM $3
FOR SHARE OF u;

-- find_session --  one that has not ended
SELECT id, user_id, created_at, expires_at, ends_at, last_used_at, address, user_agent
FROM auth.sessions
WHERE id = $1 AND expires_at > $2;

-- list_sessions --  a user's that have not ended and are older than a key, newest first
SELECT id, user_id, created_at, expires_at, ends_at, last_used_at, address, user_agent
FROM auth.sessions
WHERE user_id = $1 AND expires_at > $2 AND ($3::uuid IS NULL OR id < $3)
ORDER BY id DESC
LIMIT $4;

-- delete_session --  ends one
DELETE FROM auth.sessions WHERE id = $1;

-- delete_sessions --  ends all of a user, less one
DELETE FROM auth.sessions WHERE user_id = $1 AND ($2::uuid IS NULL OR id <> $2);

-- use_session --  notes that it was used, once a minute, and puts its end off
UPDATE auth.sessions
SET last_used_at = $2, expires_at = least(ends_at, $3), address = coalesce(nullif($4, ''), address)
WHERE id = $1 AND expires_at > $2 AND last_used_at <= $2::timestamptz - interval '1 minute';

-- bearer_of_session --  whom a session stands for
SELECT s.secret_digest, s.expires_at <= $2 AS ended, s.expires_at, s.ends_at, s.last_used_at, '{}'::uuid[] AS functions,
       '{}'::text[] AS verbs, r.revision,
       (SELECT g.id FROM auth.signing_keys g WHERE g.signs_from <= $2 ORDER BY g.signs_from DESC LIMIT 1) AS signing_key,
       u.id, u.name, u.role, u.disabled, array(SELECT m.group_id FROM auth.members m WHERE m.user_id = u.id ORDER BY m.group_id) AS groups,
       u.password_hash IS NOT NULL AS has_password, coalesce(u.issuer, '') AS issuer, u.created_at, u.updated_at
FROM auth.sessions s
JOIN auth.users u ON u.id = s.user_id
CROSS JOIN auth.revision r
WHERE s.id = $1;

-- insert_api_key --  a new key, if there is its user
INSERT INTO auth.api_keys (id, user_id, name, secret_digest, functions, verbs, created_at, expires_at)
SELECT $1, u.id, $3, $4, $5, $6, $7, $8 FROM auth.users u WHERE u.id = $2;

-- count_api_keys --  how many of a user's have not ended
SELECT count(*) FROM auth.api_keys WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2;

-- find_api_key --  one, ended or not
SELECT id, user_id, name, functions, verbs, created_at, expires_at, last_used_at, last_used_address, revoked_at, successor
FROM auth.api_keys
WHERE id = $1;

-- list_api_keys --  a user's that are older than a key, newest first
SELECT id, user_id, name, functions, verbs, created_at, expires_at, last_used_at, last_used_address, revoked_at, successor
FROM auth.api_keys
WHERE user_id = $1 AND ($2::uuid IS NULL OR id < $2)
ORDER BY id DESC
LIMIT $3;

-- succeed_api_key --  it has a successor, and ends sooner
UPDATE auth.api_keys SET successor = $2, expires_at = least(expires_at, $3) WHERE id = $1;

-- revoke_api_key --  ends one, unless it is revoked
UPDATE auth.api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL;

-- use_api_key --  notes that it was used, once a minute
UPDATE auth.api_keys
SET last_used_at = $2, last_used_address = coalesce(nullif($3, ''), last_used_address)
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $2::timestamptz - interval '1 minute');

-- bearer_of_api_key --  whom an API key stands for
SELECT k.secret_digest, k.revoked_at IS NOT NULL OR k.expires_at <= $2 AS ended, k.expires_at, NULL::timestamptz AS ends_at, k.last_used_at,
       k.functions, k.verbs, r.revision,
       (SELECT g.id FROM auth.signing_keys g WHERE g.signs_from <= $2 ORDER BY g.signs_from DESC LIMIT 1) AS signing_key,
       u.id, u.name, u.role, u.disabled, array(SELECT m.group_id FROM auth.members m WHERE m.user_id = u.id ORDER BY m.group_id) AS groups,
       u.password_hash IS NOT NULL AS has_password, coalesce(u.issuer, '') AS issuer, u.created_at, u.updated_at
FROM auth.api_keys k
JOIN auth.users u ON u.id = k.user_id
CROSS JOIN auth.revision r
WHERE k.id = $1;

-- bearer_of_user --  a user for whom a trusted issuer's token stands until a moment
SELECT ''::bytea AS secret_digest, false AS ended, $2::timestamptz AS expires_at, NULL::timestamptz AS ends_at,
       NULL::timestamptz AS last_used_at, '{}'::uuid[] AS functions, '{}'::text[] AS verbs, r.revision,
       (SELECT g.id FROM auth.signing_keys g WHERE g.signs_from <= $3 ORDER BY g.signs_from DESC LIMIT 1) AS signing_key,
       u.id, u.name, u.role, u.disabled, array(SELECT m.group_id FROM auth.members m WHERE m.user_id = u.id ORDER BY m.group_id) AS groups,
       u.password_hash IS NOT NULL AS has_password, coalesce(u.issuer, '') AS issuer, u.created_at, u.updated_at
FROM auth.users u
CROSS JOIN auth.revision r
WHERE u.id = $1;

-- list_signing_keys --  all of them, in the order of signing
SELECT id, public, sealed_private, created_at, signs_from FROM auth.signing_keys ORDER BY signs_from;

-- insert_signing_key --  a new one
INSERT INTO auth.signing_keys (id, public, sealed_private, created_at, signs_from) VALUES ($1, $2, $3, $4, $5);

-- reseal_signing_key --  its private part under another sealing key
UPDATE auth.signing_keys SET sealed_private = $2 WHERE id = $1;

-- delete_signing_key --  no token of it is good any more
DELETE FROM auth.signing_keys WHERE id = $1;

-- begin_counts --  counts that are not there yet begin with nothing
INSERT INTO auth.login_failures (key, failures, began_at, last_at)
SELECT key, 0, $2, $2 FROM unnest($1::bytea[]) AS wanted (key) ORDER BY key
ON CONFLICT (key) DO NOTHING;

-- lock_counts --  in one order, so that no two wait for each other
SELECT key, failures, began_at, last_at FROM auth.login_failures WHERE key = ANY ($1::bytea[]) ORDER BY key FOR UPDATE;

-- set_count --  one more, or the first of a new span
UPDATE auth.login_failures SET failures = $2, began_at = $3, last_at = $4 WHERE key = $1;

-- give_back --  a try that did not fail
UPDATE auth.login_failures SET failures = greatest(failures - 1, 0) WHERE key = $1;

-- forget_failures --  whoever signs in has a clean slate
DELETE FROM auth.login_failures WHERE key = $1;

-- is_known --  whether an account has signed in from an address
SELECT EXISTS (SELECT FROM auth.login_successes WHERE key = $1);

-- note_success --  an account has signed in from an address
INSERT INTO auth.login_successes (key, last_at) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET last_at = excluded.last_at;

-- purge_changes --  those that no token is older than
DELETE FROM auth.changes WHERE changed_at < now() - make_interval(secs => $1);

-- purge_sessions --  those that have expired
DELETE FROM auth.sessions WHERE expires_at <= $1;

-- purge_api_keys --  those that ended before a moment
DELETE FROM auth.api_keys WHERE least(expires_at, revoked_at) < $1;

-- purge_spent_logins --  those that would have ended
DELETE FROM auth.spent_logins WHERE ends_at <= $1;

-- purge_login_failures --  counts that count no more
DELETE FROM auth.login_failures WHERE last_at < $1;

-- purge_login_successes --  addresses that were not seen for long
DELETE FROM auth.login_successes WHERE last_at < $1;

-- write_audit_events --  the end of a call stands; in the order of ids, so that no two transactions wait for each other in a ring
INSERT INTO auth.audit_events (
    id, action, entity_kind, entity_id, user_ref, actor, actor_name, role, session, api_key, address, request_id, outcome, reason
)
SELECT id, action, entity_kind, entity_id, "user", nullif(actor, '')::uuid, actor_name, role, nullif(session, '')::uuid,
       nullif(api_key, '')::uuid, address, request_id, outcome, reason
FROM jsonb_to_recordset($1::jsonb) AS events (
    id uuid, action text, entity_kind text, entity_id text, "user" text, actor text, actor_name text, role text, session text, api_key text,
    address text, request_id text, outcome text, reason text
)
ORDER BY id
ON CONFLICT (id) DO UPDATE
SET entity_id = excluded.entity_id, user_ref = excluded.user_ref, actor = excluded.actor, actor_name = excluded.actor_name,
    outcome = excluded.outcome, reason = excluded.reason
WHERE audit_events.outcome = 'UNFINISHED' AND excluded.outcome <> 'UNFINISHED';

-- drop_audit_events --  failures beyond those that are kept
DELETE FROM auth.audit_events WHERE id = ANY ($1::uuid[]);

-- plan_for_values --  in this transaction a statement is planned for the values that it is given: the same filters are rare or common
SELECT set_config('plan_cache_mode', 'force_custom_plan', true);

-- list_audit_events --  those that pass filters, older than a key, newest first
SELECT id, action, entity_kind, entity_id, user_ref AS "user", coalesce(actor::text, '') AS actor, actor_name, role,
       coalesce(session::text, '') AS session, coalesce(api_key::text, '') AS api_key, address, request_id, outcome, reason
FROM auth.audit_events
WHERE ($1::uuid IS NULL OR actor = $1)
  AND ($2::text IS NULL OR actor_name = $2)
  AND ($3::uuid IS NULL OR api_key = $3)
  AND ($4::text IS NULL OR action = $4)
  AND ($5::text IS NULL OR entity_kind = $5)
  AND ($6::text IS NULL OR entity_id = $6)
  AND ($7::text IS NULL OR outcome = $7)
  AND ($8::uuid IS NULL OR id >= $8)
  AND ($9::uuid IS NULL OR id < $9)
ORDER BY id DESC
LIMIT $10;

-- purge_audit_events --  the oldest of those before a key, some at a time
DELETE FROM auth.audit_events
WHERE id IN (SELECT id FROM auth.audit_events WHERE id < $1 ORDER BY id LIMIT $2);
