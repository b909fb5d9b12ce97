-- insert_artifact --  keeps a module, unless its bytes are kept already
INSERT INTO compiler.artifacts (digest, wasm) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING;

-- find_artifact --  the bytes of a module
SELECT wasm FROM compiler.artifacts WHERE digest = $1;
