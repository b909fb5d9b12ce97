-- Who may access a function: ids of users and groups of the auth service, which may be dead. Where both lists are empty, everyone who is
-- signed in may. Who created what: empty where that is older than users.
ALTER TABLE registry.functions
    ADD COLUMN allowed_users text[] NOT NULL DEFAULT '{}',
    ADD COLUMN allowed_groups text[] NOT NULL DEFAULT '{}',
    ADD COLUMN created_by text NOT NULL DEFAULT '';

ALTER TABLE registry.versions ADD COLUMN created_by text NOT NULL DEFAULT '';

-- New rows say it themselves.
ALTER TABLE registry.functions
    ALTER COLUMN allowed_users DROP DEFAULT,
    ALTER COLUMN allowed_groups DROP DEFAULT,
    ALTER COLUMN created_by DROP DEFAULT;

ALTER TABLE registry.versions ALTER COLUMN created_by DROP DEFAULT;
