-- Users whom an identity provider knows. Who they are there is the issuer and the subject together; their names are Kiln's own.
ALTER TABLE auth.users
    ADD COLUMN issuer text CHECK (length(issuer) BETWEEN 1 AND 2000),
    ADD COLUMN subject text CHECK (length(subject) BETWEEN 1 AND 255),
    -- When the provider said what role and groups are of. What it said before does not count any more.
    ADD COLUMN claims_at timestamptz,
    ADD CONSTRAINT users_identity UNIQUE (issuer, subject),
    ADD CONSTRAINT users_identity_is_whole CHECK ((issuer IS NULL) = (subject IS NULL) AND (issuer IS NULL) = (claims_at IS NULL)),
    ADD CONSTRAINT users_identity_without_password CHECK (issuer IS NULL OR password_hash IS NULL);

-- Logins by an identity provider that have gone on, so that none does twice. Kept until they would have ended.
CREATE TABLE auth.spent_logins (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32), -- SHA-256 of the state
    ends_at timestamptz NOT NULL
);

CREATE INDEX spent_logins_ends_at ON auth.spent_logins (ends_at);
