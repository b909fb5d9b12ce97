-- Id of the user who called; empty where that is older than users.
ALTER TABLE executor.executions ADD COLUMN created_by text NOT NULL DEFAULT '';
