-- An end that was only concluded from an executor's silence: the executor's own word replaces it, when its journal brings one.
ALTER TABLE executor.executions ADD COLUMN swept boolean NOT NULL DEFAULT false;
