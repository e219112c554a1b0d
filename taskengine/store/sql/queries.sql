-- One query per `name:`, up to the next. Parameters are in the order of the codec's tuples.
-- What differs in a database stands once more, under the same name, in the file of its folder. Three forms are said
-- differently to each of them (dialect.py): {column}, a column with JSON, which is read as bytes and so goes to the
-- caller without being decoded on the way; {texts ?} and {numbers ?}, the rows of a JSON list that is one parameter.

-- name: forget_batches
DELETE FROM batches WHERE epoch = ? AND lane = ? AND number < ?;

-- name: forget_epochs
DELETE FROM batches WHERE epoch < ?;

-- name: read_epoch
SELECT epoch FROM nodes WHERE id = 'local';

-- name: instance_columns
SELECT
    id, workflow_id, version, {params}, created_us, idempotency_key, state, run, phase, hold, verdict,
    final, compensate_asked, hard, deadline_us, deadline_left_us, started_us, finished_us, error
FROM instances;

-- name: aged_columns
SELECT id, workflow_id, version, run, state, created_us, finished_us, idempotency_key IS NOT NULL AS keyed
FROM instances;

-- name: removed
SELECT instance_id FROM removed ORDER BY instance_id LIMIT ?;

-- name: contains
-- A condition. Not LIKE: no character of the text is special here, also not the NUL at which LIKE would stop reading.
(instr(lower(id), ?) > 0 OR instr(lower(workflow_id), ?) > 0 OR instr(lower(error), ?) > 0);

-- name: unfinished
-- What follows the columns.
WHERE phase <> 'end' AND created_us >= ? AND (created_us > ? OR id > ?) ORDER BY created_us, id LIMIT ?;

-- name: count_by_state
SELECT state, count(*) FROM instances GROUP BY state;

-- name: last_seqs
SELECT value, last FROM (
    SELECT i.value, (SELECT max(seq) FROM events WHERE instance_id = i.value) AS last FROM {texts ?} AS i
) AS found WHERE last IS NOT NULL;

-- name: light_tasks
SELECT
    instance_id, ordinal, name, state, attempt, tries, parent, {spec}, added_by, begun, due_us, park, "key", body_seq,
    losses, suspect, reason, started_us, finished_us
FROM tasks WHERE instance_id IN {texts ?} ORDER BY instance_id, ordinal;

-- name: whole_tasks
SELECT
    ordinal, name, state, attempt, tries, parent, {spec}, added_by, begun, due_us, park, "key", body_seq,
    losses, suspect, reason, started_us, finished_us, {result}, {error}
FROM tasks WHERE instance_id = ? AND ordinal > ? ORDER BY ordinal LIMIT ?;

-- name: results
SELECT ordinal, {result} FROM tasks
WHERE instance_id = ? AND ordinal IN {numbers ?} AND result IS NOT NULL;

-- name: task_errors
SELECT ordinal, {error} FROM tasks
WHERE instance_id = ? AND ordinal IN {numbers ?} AND error IS NOT NULL;

-- name: events
SELECT instance_id, seq, at_us, {body} FROM events
WHERE instance_id = ? AND seq > ? ORDER BY seq LIMIT ?;

-- name: last_event
SELECT instance_id, seq, at_us, {body} FROM events
WHERE instance_id = ? ORDER BY seq DESC LIMIT 1;

-- name: last_events
SELECT e.instance_id, e.seq, e.at_us, {e.body} FROM {texts ?} AS i JOIN events AS e
ON e.instance_id = i.value AND e.seq = (SELECT max(seq) FROM events WHERE instance_id = i.value);

-- name: task_states
SELECT ordinal, state FROM tasks WHERE instance_id = ? AND ordinal IN {numbers ?};

-- name: task_names
SELECT ordinal, name FROM tasks WHERE instance_id = ? AND ordinal IN {numbers ?};

-- name: added_task
-- Reads all of the instance's tasks: an index by name would be paid by every task.
SELECT ordinal FROM tasks WHERE instance_id = ? AND name = ? AND spec IS NOT NULL AND added_by >= 0;

-- name: tasks_in
-- Ordinals from the first number on, below the second, of tasks in one of these states; the key gives their order.
SELECT ordinal FROM tasks WHERE instance_id = ? AND ordinal >= ? AND ordinal < ? AND state IN {texts ?}
ORDER BY ordinal LIMIT ?;

-- name: family_in
-- Tasks in one of these states whose parent is from the first number to the second; -1 is that of defined tasks.
SELECT ordinal FROM tasks
WHERE instance_id = ? AND parent >= ? AND parent <= ? AND added_by >= 0 AND state IN {texts ?}
ORDER BY ordinal LIMIT ?;

-- name: family_counts
-- Reads all of the instance's tasks, but for what may be large: counters are never stored.
SELECT state, count(*) FROM tasks
WHERE instance_id = ? AND parent >= ? AND parent <= ? AND added_by >= 0 GROUP BY state;

-- name: attempts
SELECT ordinal, attempt, run, outcome, started_us, finished_us, {error} FROM attempts
WHERE instance_id = ? AND ordinal > ? AND ordinal <= ? ORDER BY ordinal, attempt;

-- name: attempts_of_task
SELECT ordinal, attempt, run, outcome, started_us, finished_us, {error} FROM attempts
WHERE instance_id = ? AND ordinal = ? ORDER BY attempt;

-- name: command
SELECT id, kind, {answer} FROM commands WHERE instance_id = ? AND id = ?;

-- name: commands
SELECT id, kind, {answer} FROM commands WHERE instance_id = ? ORDER BY number;

-- name: commands_of
SELECT instance_id, id, kind, {answer} FROM commands WHERE instance_id IN {texts ?} ORDER BY number;

-- name: definition
SELECT version, workflow_id, {canonical}, created_us FROM definitions WHERE version = ?;

-- name: current
SELECT d.version, d.workflow_id, {d.canonical}, d.created_us
FROM workflows AS w JOIN definitions AS d ON d.version = w.version WHERE w.id = ?;

-- name: workflows
SELECT d.version, d.workflow_id, {d.canonical}, d.created_us
FROM workflows AS w JOIN definitions AS d ON d.version = w.version ORDER BY w.id;

-- name: versions
SELECT version, workflow_id, {canonical}, created_us FROM definitions
WHERE workflow_id = ? ORDER BY created_us DESC, number DESC;

-- name: definitions_mentioning_retention
-- Also those where the word stands elsewhere: who asks looks into each. (A double quote would be one of a name.)
SELECT version, workflow_id, {canonical}, created_us FROM definitions WHERE canonical LIKE '%_retention_:%';

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

-- name: artifacts
SELECT instance_id, ordinal, name, digest, size, at_us FROM artifacts WHERE instance_id = ? ORDER BY ordinal, name;

-- name: known_digests
SELECT DISTINCT digest FROM artifacts WHERE digest IN {texts ?};

-- name: read_move
SELECT note FROM moves WHERE id = 'local';

-- name: forget_move
DELETE FROM moves WHERE id = 'local';

-- name: note_move
INSERT INTO moves (id, note) VALUES ('local', ?);
