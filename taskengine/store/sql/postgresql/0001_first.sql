-- Times are microseconds UTC since 1970. JSON is text, exactly as it was written; cast it to json or jsonb to look inside.
-- Texts compare by their bytes, as in the other databases, whatever the locale of this one is.

CREATE TABLE nodes (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    epoch bigint NOT NULL,
    holder text COLLATE "C" NOT NULL
);

-- One row per batch that committed and may still be asked about.
CREATE TABLE batches (
    epoch bigint NOT NULL,
    lane integer NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (epoch, lane, number)
);

CREATE TABLE definitions (
    version text COLLATE "C" NOT NULL PRIMARY KEY,
    workflow_id text COLLATE "C" NOT NULL,
    canonical text COLLATE "C" NOT NULL,
    created_us bigint NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY
);

-- version is the one that was saved last.
CREATE TABLE workflows (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    version text COLLATE "C" NOT NULL
);

CREATE TABLE functions (
    name text COLLATE "C" NOT NULL PRIMARY KEY,
    path text COLLATE "C" NOT NULL,
    signature text COLLATE "C" NOT NULL,
    doc text COLLATE "C" NOT NULL,
    source_hash text COLLATE "C" NOT NULL
);

-- state is what users see; it follows from phase, hold and final.
CREATE TABLE instances (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    workflow_id text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    params text COLLATE "C" NOT NULL,
    created_us bigint NOT NULL,
    idempotency_key text COLLATE "C",
    state text COLLATE "C" NOT NULL,
    run integer NOT NULL,
    phase text COLLATE "C" NOT NULL,
    hold text COLLATE "C" NOT NULL,
    verdict text COLLATE "C" NOT NULL,
    final text COLLATE "C",
    compensate_asked smallint NOT NULL,
    hard smallint NOT NULL,
    deadline_us bigint,
    deadline_left_us bigint,
    started_us bigint,
    finished_us bigint,
    error text COLLATE "C" NOT NULL
) WITH (fillfactor = 80);

CREATE UNIQUE INDEX instances_by_key ON instances (workflow_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX instances_by_age ON instances (created_us, id);
CREATE INDEX instances_by_workflow ON instances (workflow_id, created_us, id);
CREATE INDEX instances_by_state ON instances (state, created_us, id);
CREATE INDEX instances_unfinished ON instances (created_us, id) WHERE phase <> 'end';

-- Most rows are written twice, and the second version finds room beside the first: no index is touched then.
CREATE TABLE tasks (
    instance_id text COLLATE "C" NOT NULL,
    ordinal integer NOT NULL,
    name text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    tries integer NOT NULL,
    parent integer NOT NULL,
    spec text COLLATE "C",
    added_by integer NOT NULL,
    begun smallint NOT NULL,
    due_us bigint,
    park text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    body_seq integer NOT NULL,
    losses integer NOT NULL,
    suspect smallint NOT NULL,
    reason text COLLATE "C" NOT NULL,
    started_us bigint,
    finished_us bigint,
    result text COLLATE "C",
    error text COLLATE "C",
    PRIMARY KEY (instance_id, ordinal)
) WITH (fillfactor = 70);

-- The only one beside the key on this hot table, and empty but for tasks that wait.
CREATE INDEX tasks_due ON tasks (due_us) WHERE due_us IS NOT NULL;

CREATE TABLE attempts (
    instance_id text COLLATE "C" NOT NULL,
    ordinal integer NOT NULL,
    attempt integer NOT NULL,
    run integer NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    started_us bigint,
    finished_us bigint,
    error text COLLATE "C",
    PRIMARY KEY (instance_id, ordinal, attempt)
);

CREATE TABLE events (
    instance_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    at_us bigint NOT NULL,
    body text COLLATE "C" NOT NULL,
    PRIMARY KEY (instance_id, seq)
);

-- number is the order in which the commands were accepted.
CREATE TABLE commands (
    instance_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    answer text COLLATE "C" NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (instance_id, id)
);
