-- What a server adds: the lines that tasks write, and who may come in. The tables of the first step stay untouched.

-- By its key alone, so one line is one insert at the end of its instance's lines.
CREATE TABLE logs (
    instance_id TEXT NOT NULL,
    id INTEGER NOT NULL,
    task TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    level TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (instance_id, id)
) STRICT, WITHOUT ROWID;

-- digest is a hash; no secret is ever stored.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    revoked_us INTEGER
) STRICT, WITHOUT ROWID;

-- A definition is written once per version, never by running instances.
CREATE INDEX definitions_by_workflow ON definitions (workflow_id, created_us);
