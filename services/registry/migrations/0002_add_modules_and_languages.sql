-- A version is made from a source, or from a prebuilt module when its language is wasm. Modules may be large: only builds read them.
ALTER TABLE registry.versions
    ALTER COLUMN source DROP NOT NULL,
    ADD COLUMN wasm bytea,
    ADD CHECK (num_nonnulls(source, wasm) = 1),
    ADD CHECK ((language = 'wasm') = (wasm IS NOT NULL));

-- Modules hardly compress; TOAST need not try.
ALTER TABLE registry.versions ALTER COLUMN wasm SET STORAGE EXTERNAL;
