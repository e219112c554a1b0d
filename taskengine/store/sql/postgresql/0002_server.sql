-- What a server adds: the lines that tasks write, and who may come in. The tables of the first step stay untouched.

-- By its key alone, so one line is one insert at the end of its instance's lines.
CREATE TABLE logs (
    instance_id text COLLATE "C" NOT NULL,
    id bigint NOT NULL,
    task text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    level text COLLATE "C" NOT NULL,
    at_us bigint NOT NULL,
    message text COLLATE "C" NOT NULL,
    PRIMARY KEY (instance_id, id)
);

-- digest is a hash; no secret is ever stored.
CREATE TABLE tokens (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    created_us bigint NOT NULL,
    expires_us bigint,
    revoked_us bigint
);

-- A definition is written once per version, never by running instances.
CREATE INDEX definitions_by_workflow ON definitions (workflow_id, created_us);
