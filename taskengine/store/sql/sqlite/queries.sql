-- One query per `name:`, up to the next. Parameters are in the order of the codec's tuples.
-- JSON columns are read as blobs: bytes go to the caller as they are, without being decoded on the way.

-- name: begin_batch
-- No row means that the node's epoch has moved on: this process does not own the file any more.
INSERT INTO batches (epoch, lane, number)
SELECT epoch, ?2, ?3 FROM nodes WHERE id = 'local' AND epoch = ?1;

-- name: forget_batches
DELETE FROM batches WHERE epoch = ? AND lane = ? AND number < ?;

-- name: next_epoch
INSERT INTO nodes (id, epoch) VALUES ('local', 1)
ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1
RETURNING epoch;

-- name: forget_epochs
DELETE FROM batches WHERE epoch < ?;

-- name: read_epoch
SELECT epoch FROM nodes WHERE id = 'local';

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

-- name: instance_columns
SELECT
    id, workflow_id, version, CAST(params AS BLOB), created_us, idempotency_key, state, run, phase, hold, verdict,
    final, compensate_asked, hard, deadline_us, deadline_left_us, started_us, finished_us, error
FROM instances;

-- name: count_by_state
SELECT state, count(*) FROM instances GROUP BY state;

-- name: last_seqs
SELECT i.value, (SELECT max(seq) FROM events WHERE instance_id = i.value)
FROM json_each(?) AS i WHERE EXISTS (SELECT 1 FROM events WHERE instance_id = i.value);

-- name: light_tasks
SELECT
    instance_id, ordinal, name, state, attempt, tries, parent, CAST(spec AS BLOB), added_by, begun, due_us, park, key, body_seq,
    losses, suspect, reason, started_us, finished_us
FROM tasks WHERE instance_id IN (SELECT value FROM json_each(?)) ORDER BY instance_id, ordinal;

-- name: whole_tasks
SELECT
    ordinal, name, state, attempt, tries, parent, CAST(spec AS BLOB), added_by, begun, due_us, park, key, body_seq,
    losses, suspect, reason, started_us, finished_us, CAST(result AS BLOB), CAST(error AS BLOB)
FROM tasks WHERE instance_id = ? AND ordinal > ? ORDER BY ordinal LIMIT ?;

-- name: results
SELECT ordinal, CAST(result AS BLOB) FROM tasks
WHERE instance_id = ? AND ordinal IN (SELECT value FROM json_each(?)) AND result IS NOT NULL ORDER BY ordinal;

-- name: task_errors
SELECT ordinal, CAST(error AS BLOB) FROM tasks
WHERE instance_id = ? AND ordinal IN (SELECT value FROM json_each(?)) AND error IS NOT NULL ORDER BY ordinal;

-- name: events
SELECT instance_id, seq, at_us, CAST(body AS BLOB) FROM events
WHERE instance_id = ? AND seq > ? ORDER BY seq LIMIT ?;

-- name: last_event
SELECT instance_id, seq, at_us, CAST(body AS BLOB) FROM events
WHERE instance_id = ? ORDER BY seq DESC LIMIT 1;

-- name: last_events
SELECT e.instance_id, e.seq, e.at_us, CAST(e.body AS BLOB) FROM json_each(?) AS i JOIN events AS e
ON e.instance_id = i.value AND e.seq = (SELECT max(seq) FROM events WHERE instance_id = i.value);

-- name: task_states
SELECT ordinal, state FROM tasks WHERE instance_id = ? AND ordinal IN (SELECT value FROM json_each(?));

-- name: tasks_in
-- Ordinals of tasks in one of these states; the index of the key gives their order.
SELECT ordinal FROM tasks WHERE instance_id = ?1 AND ordinal < ?2 AND state IN (SELECT value FROM json_each(?3))
ORDER BY ordinal LIMIT ?4;

-- name: tasks_not_in
-- Ordinals of tasks that have no row, or one in none of these states.
WITH RECURSIVE ordinals (ordinal) AS (
    SELECT 0 WHERE ?2 > 0 UNION ALL SELECT ordinal + 1 FROM ordinals WHERE ordinal + 1 < ?2
)
SELECT ordinal FROM ordinals AS o WHERE NOT EXISTS (
    SELECT 1 FROM tasks AS t
    WHERE t.instance_id = ?1 AND t.ordinal = o.ordinal AND t.state IN (SELECT value FROM json_each(?3))
) LIMIT ?4;

-- name: attempts
SELECT ordinal, attempt, run, outcome, started_us, finished_us, CAST(error AS BLOB) FROM attempts
WHERE instance_id = ? AND ordinal > ? AND ordinal <= ? ORDER BY ordinal, attempt;

-- name: attempts_of_task
SELECT ordinal, attempt, run, outcome, started_us, finished_us, CAST(error AS BLOB) FROM attempts
WHERE instance_id = ? AND ordinal = ? ORDER BY attempt;

-- name: command
SELECT id, kind, CAST(answer AS BLOB) FROM commands WHERE instance_id = ? AND id = ?;

-- name: commands
SELECT id, kind, CAST(answer AS BLOB) FROM commands WHERE instance_id = ? ORDER BY rowid;

-- name: commands_of
SELECT instance_id, id, kind, CAST(answer AS BLOB) FROM commands
WHERE instance_id IN (SELECT value FROM json_each(?)) ORDER BY rowid;

-- name: definition
SELECT version, workflow_id, CAST(canonical AS BLOB), created_us FROM definitions WHERE version = ?;

-- name: current
SELECT d.version, d.workflow_id, CAST(d.canonical AS BLOB), d.created_us
FROM workflows AS w JOIN definitions AS d ON d.version = w.version WHERE w.id = ?;

-- name: workflows
SELECT d.version, d.workflow_id, CAST(d.canonical AS BLOB), d.created_us
FROM workflows AS w JOIN definitions AS d ON d.version = w.version ORDER BY w.id;

-- name: versions
SELECT version, workflow_id, CAST(canonical AS BLOB), created_us FROM definitions
WHERE workflow_id = ? ORDER BY created_us DESC, rowid DESC;

-- name: logs
SELECT instance_id, id, task, attempt, level, at_us, message FROM logs
WHERE instance_id = ? AND id > ? ORDER BY id LIMIT ?;

-- name: logs_of_task
SELECT instance_id, id, task, attempt, level, at_us, message FROM logs
WHERE instance_id = ? AND id > ? AND task = ? ORDER BY id LIMIT ?;

-- name: last_logs
SELECT instance_id, id, task, attempt, level, at_us, message FROM logs
WHERE instance_id = ? AND id > ? ORDER BY id DESC LIMIT ?;

-- name: last_logs_of_task
SELECT instance_id, id, task, attempt, level, at_us, message FROM logs
WHERE instance_id = ? AND id > ? AND task = ? ORDER BY id DESC LIMIT ?;

-- name: last_log
SELECT coalesce(max(id), 0) FROM logs WHERE instance_id = ?;

-- name: tokens
SELECT id, name, scope, digest, created_us, expires_us, revoked_us FROM tokens ORDER BY created_us, id;

-- name: functions
SELECT name, path, signature, doc, source_hash FROM functions ORDER BY name;
