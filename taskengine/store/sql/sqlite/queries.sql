-- What SQLite says differently from ../queries.sql, and its writing, which the servers do a batch at a time.

-- name: begin_batch
-- No row means that the node's epoch has moved on: this process does not own the file any more.
INSERT INTO batches (epoch, lane, number)
SELECT epoch, ?2, ?3 FROM nodes WHERE id = 'local' AND epoch = ?1;

-- name: next_epoch
INSERT INTO nodes (id, epoch) VALUES ('local', 1)
ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1
RETURNING epoch;

-- name: insert_definition
INSERT INTO definitions (version, workflow_id, canonical, created_us) VALUES (?, ?, ?, ?)
ON CONFLICT (version) DO NOTHING;

-- name: save_current
INSERT INTO workflows (id, version) VALUES (?, ?)
ON CONFLICT (id) DO UPDATE SET version = excluded.version;

-- name: remove_current
DELETE FROM workflows WHERE id = ?;

-- name: save_function
INSERT INTO functions (name, path, signature, doc, source_hash) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
    path = excluded.path, signature = excluded.signature, doc = excluded.doc, source_hash = excluded.source_hash;

-- name: insert_instance
INSERT INTO instances (
    id, workflow_id, version, params, created_us, idempotency_key, state, run, phase, hold, verdict, final,
    compensate_asked, hard, deadline_us, deadline_left_us, started_us, finished_us, error
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: change_instance
UPDATE instances SET
    state = ?, run = ?, phase = ?, hold = ?, verdict = ?, final = ?, compensate_asked = ?, hard = ?, deadline_us = ?,
    deadline_left_us = ?, started_us = ?, finished_us = ?, error = ?
WHERE id = ? AND phase = ? AND hold = ? AND run = ?;

-- name: remove_instance
DELETE FROM instances WHERE id = ? AND phase = 'end' AND run = ?;

-- name: note_removed
INSERT INTO removed (instance_id) VALUES (?);

-- name: sweep_logs
-- Tables without a rowid have no DELETE with a LIMIT; their key does as well.
DELETE FROM logs WHERE (instance_id, id) IN (
    SELECT instance_id, id FROM logs WHERE instance_id IN {texts ?} LIMIT ?
);

-- name: sweep_artifacts
DELETE FROM artifacts WHERE (instance_id, ordinal, name) IN (
    SELECT instance_id, ordinal, name FROM artifacts WHERE instance_id IN {texts ?} LIMIT ?
);

-- name: sweep_attempts
DELETE FROM attempts WHERE (instance_id, ordinal, attempt) IN (
    SELECT instance_id, ordinal, attempt FROM attempts WHERE instance_id IN {texts ?} LIMIT ?
);

-- name: sweep_commands
DELETE FROM commands WHERE rowid IN (SELECT rowid FROM commands WHERE instance_id IN {texts ?} LIMIT ?);

-- name: sweep_tasks
DELETE FROM tasks WHERE (instance_id, ordinal) IN (
    SELECT instance_id, ordinal FROM tasks WHERE instance_id IN {texts ?} LIMIT ?
);

-- name: sweep_events
DELETE FROM events WHERE (instance_id, seq) IN (
    SELECT instance_id, seq FROM events WHERE instance_id IN {texts ?} AND seq > 1 LIMIT ?
);

-- name: sweep_first_events
DELETE FROM events WHERE instance_id IN {texts ?};

-- name: forget_removed
DELETE FROM removed WHERE instance_id IN {texts ?};

-- name: insert_task
INSERT INTO tasks (
    instance_id, ordinal, name, state, attempt, tries, parent, spec, added_by, begun, due_us, park, key, body_seq,
    losses, suspect, reason, started_us, finished_us, result, error
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: change_task
UPDATE tasks SET
    name = ?, state = ?, attempt = ?, tries = ?, parent = ?, spec = ?, added_by = ?, begun = ?, due_us = ?, park = ?,
    key = ?, body_seq = ?, losses = ?, suspect = ?, reason = ?, started_us = ?, finished_us = ?,
    result = iif(?, ?, result), error = iif(?, ?, error)
WHERE instance_id = ? AND ordinal = ? AND state = ? AND attempt = ?;

-- name: insert_attempt
INSERT INTO attempts (instance_id, ordinal, attempt, run, outcome, started_us, finished_us, error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_event
INSERT INTO events (instance_id, seq, at_us, body) VALUES (?, ?, ?, ?);

-- name: insert_command
INSERT INTO commands (instance_id, id, kind, answer) VALUES (?, ?, ?, ?);

-- name: insert_log
-- Not OR IGNORE, which would also pass over a row that breaks another rule.
INSERT INTO logs (instance_id, id, task, attempt, level, at_us, message) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (instance_id, id) DO NOTHING;

-- name: save_token
INSERT INTO tokens (id, name, scope, digest, created_us, expires_us, revoked_us) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name, scope = excluded.scope, digest = excluded.digest, created_us = excluded.created_us,
    expires_us = excluded.expires_us, revoked_us = excluded.revoked_us;

-- name: commands
SELECT id, kind, {answer} FROM commands WHERE instance_id = ? ORDER BY rowid;

-- name: commands_of
SELECT instance_id, id, kind, {answer} FROM commands WHERE instance_id IN {texts ?} ORDER BY rowid;

-- name: versions
SELECT version, workflow_id, {canonical}, created_us FROM definitions
WHERE workflow_id = ? ORDER BY created_us DESC, rowid DESC;

-- name: has_label
-- A condition. By key and value and not by a JSON path: a path has no way to write every key, such as one with a quote.
version IN (
    SELECT d.version FROM definitions AS d, json_each(d.canonical, '$.labels') AS label
    WHERE label.key = ? AND label.value = ?
);

-- name: save_artifact
INSERT INTO artifacts (instance_id, ordinal, name, digest, size, at_us) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (instance_id, ordinal, name) DO UPDATE SET
    digest = excluded.digest, size = excluded.size, at_us = excluded.at_us;
