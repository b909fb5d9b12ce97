-- Who did what to which entity, and what came of it. The id is a UUIDv7 of the moment when the call began, so that time is in the key.
-- Rows name users, keys and entities that may be gone: nothing here refers to other tables.
CREATE TABLE auth.audit_events (
    id uuid PRIMARY KEY,
    action text NOT NULL, -- the RPC's name
    entity_kind text NOT NULL,
    entity_id text NOT NULL, -- an id, or a name where nothing of that name was found; empty for none
    user_ref text NOT NULL, -- the user whom it is about besides, in the same way
    actor uuid,
    actor_name text NOT NULL,
    role text NOT NULL,
    session uuid,
    api_key uuid,
    address text NOT NULL,
    request_id text NOT NULL,
    -- A gRPC code's name; UNFINISHED until the end is heard, which then stands.
    outcome text NOT NULL,
    reason text NOT NULL
);

-- Each filter finds its events newest first. Most calls end well, so that those are found by the key alone.
CREATE INDEX audit_events_actor ON auth.audit_events (actor, id) WHERE actor IS NOT NULL;
CREATE INDEX audit_events_actor_name ON auth.audit_events (actor_name, id);
CREATE INDEX audit_events_api_key ON auth.audit_events (api_key, id) WHERE api_key IS NOT NULL;
CREATE INDEX audit_events_action ON auth.audit_events (action, id);
CREATE INDEX audit_events_entity_kind ON auth.audit_events (entity_kind, id);
CREATE INDEX audit_events_entity_id ON auth.audit_events (entity_id, id);
CREATE INDEX audit_events_outcome ON auth.audit_events (outcome, id) WHERE outcome <> 'OK';

-- An action is to one kind of entity. Without this a list of an action that is never done to some kind would be taken for a common thing, and
-- looked for all the way back.
CREATE STATISTICS auth.audit_events_of_kinds (mcv) ON action, entity_kind FROM auth.audit_events;
