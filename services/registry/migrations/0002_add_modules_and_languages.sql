-- A version is made from a source, or from a prebuilt module when its language is wasm. Modules may be large: only builds read them.
ALTER TABLE registry.versions
    ALTER COLUMN source DROP NOT NULL,
    ADD COLUMN wasm bytea,
    ADD CHECK (num_nonnulls(source, wasm) = 1),
    ADD CHECK ((language = 'wasm') = (wasm IS NOT NULL));

-- Modules hardly compress; TOAST need not try.
ALTER TABLE registry.versions ALTER COLUMN wasm SET STORAGE EXTERNAL;

-- What the newest announcement of a compiler says of each language. Several compilers may announce: whoever spoke last is believed, since
-- they are one image as a rule. Where they differ, the one that was started or changed last decides what is taken.
CREATE TABLE registry.languages (
    id text PRIMARY KEY,
    name text NOT NULL,
    available boolean NOT NULL,
    install_hint text NOT NULL,
    -- The message of the announcement: ids rise, so that one that is applied late does not undo a newer one.
    message_id bigint NOT NULL
);
