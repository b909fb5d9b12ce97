-- Compiled modules by the digest of their bytes. A row never changes.
CREATE TABLE compiler.artifacts (
    digest text PRIMARY KEY CHECK (digest ~ '^sha256:[0-9a-f]{64}$'),
    wasm bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Modules hardly compress; TOAST need not try.
ALTER TABLE compiler.artifacts ALTER COLUMN wasm SET STORAGE EXTERNAL;
