-- The newest revision: one row, which every transaction that changes anything locks first. So changes are made one after the other, and
-- whoever reads this number and other rows in one statement sees exactly what the changes up to it have made.
CREATE TABLE auth.revision (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    revision bigint NOT NULL
);

INSERT INTO auth.revision (revision) VALUES (1);

-- Whose access tokens are not to be taken any more when they are older than the revision. Kept for as long as such tokens can live.
CREATE TABLE auth.changes (
    subject_id uuid PRIMARY KEY, -- of a user, a session or an API key
    revision bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX changes_revision ON auth.changes (revision);
CREATE INDEX changes_changed_at ON auth.changes (changed_at);

CREATE TABLE auth.users (
    id uuid PRIMARY KEY, -- UUIDv7
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9._-]{0,62}$'),
    role text NOT NULL CHECK (role IN ('ADMIN', 'DEV')),
    disabled boolean NOT NULL DEFAULT false,
    -- bcrypt; NULL for users who have only API keys.
    password_hash bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX users_admins ON auth.users (id) WHERE role = 'ADMIN' AND NOT disabled;

CREATE TABLE auth.groups (
    id uuid PRIMARY KEY, -- UUIDv7
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9._-]{0,62}$'),
    description text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE auth.members (
    group_id uuid NOT NULL REFERENCES auth.groups (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, user_id)
);

CREATE INDEX members_user ON auth.members (user_id);

-- A session that has ended is deleted.
CREATE TABLE auth.sessions (
    id uuid PRIMARY KEY, -- UUIDv7
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    secret_digest bytea NOT NULL CHECK (length(secret_digest) = 32), -- SHA-256
    created_at timestamptz NOT NULL,
    -- Use puts it off, but not beyond the last moment.
    expires_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    address text NOT NULL,
    user_agent text NOT NULL,
    CHECK (created_at < expires_at AND expires_at <= ends_at)
);

CREATE INDEX sessions_user ON auth.sessions (user_id, id);
CREATE INDEX sessions_expires_at ON auth.sessions (expires_at);

-- A key that has ended stays for a while, so that lists tell of it.
CREATE TABLE auth.api_keys (
    id uuid PRIMARY KEY, -- UUIDv7
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    secret_digest bytea NOT NULL CHECK (length(secret_digest) = 32), -- SHA-256
    -- What it is narrowed to; empty for all.
    functions uuid[] NOT NULL CHECK (cardinality(functions) <= 100),
    verbs text[] NOT NULL CHECK (verbs <@ '{READ,EXECUTE,MANAGE}'),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    last_used_at timestamptz,
    last_used_address text NOT NULL DEFAULT '',
    revoked_at timestamptz,
    -- What it was rotated into; it lives on until it expires.
    successor uuid UNIQUE REFERENCES auth.api_keys (id) ON DELETE SET NULL,
    CHECK (created_at <= expires_at),
    CHECK (successor <> id)
);

CREATE INDEX api_keys_user ON auth.api_keys (user_id, id);
CREATE INDEX api_keys_expires_at ON auth.api_keys (expires_at);

-- What access tokens are signed with (Ed25519). A key signs from its moment on until the next one's comes.
CREATE TABLE auth.signing_keys (
    id text PRIMARY KEY,
    public bytea NOT NULL CHECK (length(public) = 32),
    sealed_private bytea NOT NULL,
    created_at timestamptz NOT NULL,
    signs_from timestamptz NOT NULL UNIQUE
);

-- Tries to sign in that failed, or have not succeeded yet, counted by account and address, by address and by account. Keys are hashes.
CREATE TABLE auth.login_failures (
    key bytea PRIMARY KEY CHECK (length(key) = 32),
    failures integer NOT NULL CHECK (failures >= 0),
    -- When the first that counts was, and the last.
    began_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL
);

CREATE INDEX login_failures_last_at ON auth.login_failures (last_at);

-- From where accounts have signed in. Keys are hashes of account and address.
CREATE TABLE auth.login_successes (
    key bytea PRIMARY KEY CHECK (length(key) = 32),
    last_at timestamptz NOT NULL
);

CREATE INDEX login_successes_last_at ON auth.login_successes (last_at);
