-- insert_artifact --  keeps a module, unless its bytes are kept already
INSERT INTO compiler.artifacts (digest, wasm) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING;

-- find_artifact --  the bytes of a module
SELECT wasm FROM compiler.artifacts WHERE digest = $1;

-- insert_build --  remembers what was built from what
INSERT INTO compiler.builds (key, artifact_digest, abi, diagnostics) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING;

-- find_build --  what was built from the same before
SELECT b.artifact_digest, octet_length(a.wasm) AS artifact_bytes, b.abi, b.diagnostics
FROM compiler.builds b
JOIN compiler.artifacts a ON a.digest = b.artifact_digest
WHERE b.key = $1;
