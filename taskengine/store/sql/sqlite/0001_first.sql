-- Times are microseconds UTC since 1970. JSON is text: every SQL client shows it, and SQLite's JSON functions read it.
-- result and error stand last in their tables, so that reading the columns before them skips their overflow pages.

CREATE TABLE nodes (
    id TEXT NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per batch that committed and may still be asked about.
CREATE TABLE batches (
    epoch INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (epoch, lane, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE definitions (
    version TEXT NOT NULL PRIMARY KEY,
    workflow_id TEXT NOT NULL,
    canonical TEXT NOT NULL,
    created_us INTEGER NOT NULL
) STRICT;

-- version is the one that was saved last.
CREATE TABLE workflows (
    id TEXT NOT NULL PRIMARY KEY,
    version TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE functions (
    name TEXT NOT NULL PRIMARY KEY,
    path TEXT NOT NULL,
    signature TEXT NOT NULL,
    doc TEXT NOT NULL,
    source_hash TEXT NOT NULL
) STRICT;

-- state is what users see; it follows from phase, hold and final.
CREATE TABLE instances (
    id TEXT NOT NULL PRIMARY KEY,
    workflow_id TEXT NOT NULL,
    version TEXT NOT NULL,
    params TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    idempotency_key TEXT,
    state TEXT NOT NULL,
    run INTEGER NOT NULL,
    phase TEXT NOT NULL,
    hold TEXT NOT NULL,
    verdict TEXT NOT NULL,
    final TEXT,
    compensate_asked INTEGER NOT NULL,
    hard INTEGER NOT NULL,
    deadline_us INTEGER,
    deadline_left_us INTEGER,
    started_us INTEGER,
    finished_us INTEGER,
    error TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX instances_by_key ON instances (workflow_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX instances_by_age ON instances (created_us, id);
CREATE INDEX instances_by_workflow ON instances (workflow_id, created_us, id);
CREATE INDEX instances_by_state ON instances (state, created_us, id);
CREATE INDEX instances_unfinished ON instances (created_us, id) WHERE phase <> 'end';

CREATE TABLE tasks (
    instance_id TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    spec TEXT,
    added_by INTEGER NOT NULL,
    begun INTEGER NOT NULL,
    due_us INTEGER,
    park TEXT NOT NULL,
    key TEXT NOT NULL,
    body_seq INTEGER NOT NULL,
    losses INTEGER NOT NULL,
    suspect INTEGER NOT NULL,
    reason TEXT NOT NULL,
    started_us INTEGER,
    finished_us INTEGER,
    result TEXT,
    error TEXT,
    PRIMARY KEY (instance_id, ordinal)
) STRICT, WITHOUT ROWID;

-- The only one beside the key on this hot table, and empty but for tasks that wait.
CREATE INDEX tasks_due ON tasks (due_us) WHERE due_us IS NOT NULL;

CREATE TABLE attempts (
    instance_id TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    run INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    started_us INTEGER,
    finished_us INTEGER,
    error TEXT,
    PRIMARY KEY (instance_id, ordinal, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    instance_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (instance_id, seq)
) STRICT, WITHOUT ROWID;

-- With a rowid: it is the order in which the commands were accepted.
CREATE TABLE commands (
    instance_id TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (instance_id, id)
) STRICT;
