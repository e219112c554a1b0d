-- How far this database has been filled from another one, as JSON; no row: its rows are its own.
CREATE TABLE moves (
    id TEXT NOT NULL PRIMARY KEY,
    note TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Views for people who look into the database themselves: docs/sql-views.md. The engine asks none of them. Their names
-- and columns stay and are alike in all databases; later steps may add some. Times are UTC.
-- U+0000 in a JSON text is replaced before it is read: a text would end there.

CREATE VIEW v_workflows AS
SELECT
    w.id AS id,
    coalesce(json_extract(d.canonical, '$.name'), w.id) AS name,
    coalesce(json_extract(d.canonical, '$.description'), '') AS description,
    coalesce(json_array_length(d.canonical, '$.tasks'), 0) AS task_count,
    w.version AS version,
    strftime('%Y-%m-%dT%H:%M:%S', d.created_us / 1000000, 'unixepoch')
        || printf('.%06dZ', d.created_us % 1000000) AS created_at
FROM workflows AS w JOIN definitions AS d ON d.version = w.version;

CREATE VIEW v_instances AS
SELECT
    id,
    workflow_id,
    workflow_name,
    version,
    status,
    run,
    CASE WHEN total = 0 THEN 100 ELSE 100 * settled / total END AS percent,
    total AS tasks_total,
    completed AS tasks_completed,
    failed AS tasks_failed,
    running AS tasks_running,
    pending AS tasks_pending,
    skipped AS tasks_skipped,
    cancelled AS tasks_cancelled,
    compensation AS tasks_compensation,
    params,
    idempotency_key,
    strftime('%Y-%m-%dT%H:%M:%S', created_us / 1000000, 'unixepoch')
        || printf('.%06dZ', created_us % 1000000) AS created_at,
    strftime('%Y-%m-%dT%H:%M:%S', started_us / 1000000, 'unixepoch')
        || printf('.%06dZ', started_us % 1000000) AS started_at,
    strftime('%Y-%m-%dT%H:%M:%S', finished_us / 1000000, 'unixepoch')
        || printf('.%06dZ', finished_us % 1000000) AS finished_at,
    (finished_us - started_us) / 1000000.0 AS duration_s,
    nullif(error, '') AS error_message
FROM (
    SELECT
        counted.*,
        completed + failed + skipped + cancelled + compensation AS settled,
        completed + failed + skipped + cancelled + compensation + running + pending AS total
    FROM (
        SELECT
            i.id, i.workflow_id, i.version, i.state AS status, i.run, i.params, i.idempotency_key,
            i.created_us, i.started_us, i.finished_us, i.error,
            coalesce(json_extract(d.canonical, '$.name'), i.workflow_id) AS workflow_name,
            coalesce(json_extract(e.body, '$.progress[0]'), 0) AS completed,
            coalesce(json_extract(e.body, '$.progress[1]'), 0) AS failed,
            coalesce(json_extract(e.body, '$.progress[2]'), 0) AS running,
            coalesce(json_extract(e.body, '$.progress[3]'), 0) AS pending,
            coalesce(json_extract(e.body, '$.progress[4]'), 0) AS skipped,
            coalesce(json_extract(e.body, '$.progress[5]'), 0) AS cancelled,
            coalesce(json_extract(e.body, '$.progress[6]'), 0) AS compensation
        FROM instances AS i
        LEFT JOIN definitions AS d ON d.version = i.version
        LEFT JOIN events AS e ON e.instance_id = i.id
            AND e.seq = (SELECT max(l.seq) FROM events AS l WHERE l.instance_id = i.id)
    ) AS counted
) AS summed;

CREATE VIEW v_tasks AS
SELECT
    instance_id,
    ordinal,
    name,
    state AS status,
    attempt,
    tries,
    strftime('%Y-%m-%dT%H:%M:%S', started_us / 1000000, 'unixepoch')
        || printf('.%06dZ', started_us % 1000000) AS started_at,
    strftime('%Y-%m-%dT%H:%M:%S', finished_us / 1000000, 'unixepoch')
        || printf('.%06dZ', finished_us % 1000000) AS finished_at,
    CASE WHEN state IN (
        'Success', 'Failed', 'TimedOut', 'Skipped', 'UpstreamFailed', 'Cancelled', 'Compensated', 'CompensationFailed'
    ) THEN (finished_us - started_us) / 1000000.0 END AS duration_s,
    strftime('%Y-%m-%dT%H:%M:%S', due_us / 1000000, 'unixepoch')
        || printf('.%06dZ', due_us % 1000000) AS due_at,
    nullif(reason, '') AS reason,
    CASE WHEN substr(result, 1, 1) <> '@' THEN result END AS result,
    CASE WHEN substr(result, 1, 1) = '@' THEN substr(result, 9, 64) END AS artifact_digest,
    CASE WHEN substr(result, 1, 1) = '@' THEN CAST(substr(result, 74) AS INTEGER) END AS artifact_size,
    json_extract(error, '$.type') AS error_type,
    json_extract(replace(error, '\u0000', '\ufffd'), '$.message') AS error_message
FROM tasks;

CREATE VIEW v_attempts AS
SELECT
    a.instance_id,
    t.name AS task,
    a.attempt,
    a.run,
    a.outcome,
    strftime('%Y-%m-%dT%H:%M:%S', a.started_us / 1000000, 'unixepoch')
        || printf('.%06dZ', a.started_us % 1000000) AS started_at,
    strftime('%Y-%m-%dT%H:%M:%S', a.finished_us / 1000000, 'unixepoch')
        || printf('.%06dZ', a.finished_us % 1000000) AS finished_at,
    (a.finished_us - a.started_us) / 1000000.0 AS duration_s,
    json_extract(a.error, '$.type') AS error_type,
    json_extract(replace(a.error, '\u0000', '\ufffd'), '$.message') AS error_message
FROM attempts AS a JOIN tasks AS t ON t.instance_id = a.instance_id AND t.ordinal = a.ordinal;

CREATE VIEW v_events AS
SELECT
    instance_id,
    seq,
    strftime('%Y-%m-%dT%H:%M:%S', at_us / 1000000, 'unixepoch')
        || printf('.%06dZ', at_us % 1000000) AS at,
    json_extract(body, '$.state') AS status,
    coalesce(json_extract(body, '$.run'), 1) AS run,
    json_extract(replace(body, '\u0000', '\ufffd'), '$.reason') AS reason,
    json_extract(body, '$.transitions') AS transitions
FROM events;

CREATE VIEW v_logs AS
SELECT
    instance_id,
    id,
    task,
    attempt,
    level,
    strftime('%Y-%m-%dT%H:%M:%S', at_us / 1000000, 'unixepoch')
        || printf('.%06dZ', at_us % 1000000) AS at,
    message
FROM logs;
