-- What was built from what: the key is a digest of source, toolchain, flags and checks. Only what can be run is here; a row never changes.
CREATE TABLE compiler.builds (
    key text PRIMARY KEY CHECK (key ~ '^sha256:[0-9a-f]{64}$'),
    artifact_digest text NOT NULL REFERENCES compiler.artifacts (digest),
    abi text NOT NULL,
    -- Warnings belong to the result as the module does.
    diagnostics jsonb NOT NULL,
    built_at timestamptz NOT NULL DEFAULT now()
);
