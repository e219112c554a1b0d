-- How far this database has been filled from another one, as JSON; no row: its rows are its own.
CREATE TABLE IF NOT EXISTS moves (
    id VARCHAR(255) NOT NULL PRIMARY KEY,
    note LONGTEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE={exact};

-- Views for people who look into the database themselves: docs/sql-views.md. The engine asks none of them. Their names
-- and columns stay and are alike in all databases; later steps may add some. Times are UTC.

CREATE SQL SECURITY INVOKER VIEW v_workflows AS
SELECT
    w.id AS id,
    coalesce(JSON_UNQUOTE(JSON_EXTRACT(d.canonical, '$.name')) COLLATE {exact}, w.id) AS name,
    coalesce(JSON_UNQUOTE(JSON_EXTRACT(d.canonical, '$.description')) COLLATE {exact}, '') AS description,
    coalesce(JSON_LENGTH(d.canonical, '$.tasks'), 0) AS task_count,
    w.version AS version,
    TIMESTAMP '1970-01-01 00:00:00' + INTERVAL d.created_us MICROSECOND AS created_at
FROM workflows AS w JOIN definitions AS d ON d.version = w.version;

CREATE SQL SECURITY INVOKER VIEW v_instances AS
SELECT
    id,
    workflow_id,
    workflow_name,
    version,
    status,
    run,
    CASE WHEN total = 0 THEN 100 ELSE 100 * settled DIV total END AS percent,
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
    TIMESTAMP '1970-01-01 00:00:00' + INTERVAL created_us MICROSECOND AS created_at,
    TIMESTAMP '1970-01-01 00:00:00' + INTERVAL started_us MICROSECOND AS started_at,
    TIMESTAMP '1970-01-01 00:00:00' + INTERVAL finished_us MICROSECOND AS finished_at,
    (finished_us - started_us) / 1e6 AS duration_s,
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
            coalesce(
                JSON_UNQUOTE(JSON_EXTRACT(d.canonical, '$.name')) COLLATE {exact}, i.workflow_id
            ) AS workflow_name,
            coalesce(CAST(JSON_EXTRACT(e.body, '$.progress[0]') AS SIGNED), 0) AS completed,
            coalesce(CAST(JSON_EXTRACT(e.body, '$.progress[1]') AS SIGNED), 0) AS failed,
            coalesce(CAST(JSON_EXTRACT(e.body, '$.progress[2]') AS SIGNED), 0) AS running,
            coalesce(CAST(JSON_EXTRACT(e.body, '$.progress[3]') AS SIGNED), 0) AS pending,
            coalesce(CAST(JSON_EXTRACT(e.body, '$.progress[4]') AS SIGNED), 0) AS skipped,
            coalesce(CAST(JSON_EXTRACT(e.body, '$.progress[5]') AS SIGNED), 0) AS cancelled,
            coalesce(CAST(JSON_EXTRACT(e.body, '$.progress[6]') AS SIGNED), 0) AS compensation
        FROM instances AS i
        LEFT JOIN definitions AS d ON d.version = i.version
        LEFT JOIN events AS e ON e.instance_id = i.id
            AND e.seq = (SELECT max(l.seq) FROM events AS l WHERE l.instance_id = i.id)
    ) AS counted
) AS summed;

CREATE SQL SECURITY INVOKER VIEW v_tasks AS
SELECT
    instance_id,
    ordinal,
    name,
    state AS status,
    attempt,
    tries,
    TIMESTAMP '1970-01-01 00:00:00' + INTERVAL started_us MICROSECOND AS started_at,
    TIMESTAMP '1970-01-01 00:00:00' + INTERVAL finished_us MICROSECOND AS finished_at,
    CASE WHEN state IN (
        'Success', 'Failed', 'TimedOut', 'Skipped', 'UpstreamFailed', 'Cancelled', 'Compensated', 'CompensationFailed'
    ) THEN (finished_us - started_us) / 1e6 END AS duration_s,
    TIMESTAMP '1970-01-01 00:00:00' + INTERVAL due_us MICROSECOND AS due_at,
    nullif(reason, '') AS reason,
    CASE WHEN substr(result, 1, 1) <> '@' THEN result END AS result,
    CASE WHEN substr(result, 1, 1) = '@' THEN substr(result, 9, 64) END AS artifact_digest,
    CASE WHEN substr(result, 1, 1) = '@' THEN CAST(substr(result, 74) AS SIGNED) END AS artifact_size,
    JSON_UNQUOTE(JSON_EXTRACT(error, '$.type')) COLLATE {exact} AS error_type,
    JSON_UNQUOTE(JSON_EXTRACT(error, '$.message')) COLLATE {exact} AS error_message
FROM tasks;

CREATE SQL SECURITY INVOKER VIEW v_attempts AS
SELECT
    a.instance_id,
    t.name AS task,
    a.attempt,
    a.run,
    a.outcome,
    TIMESTAMP '1970-01-01 00:00:00' + INTERVAL a.started_us MICROSECOND AS started_at,
    TIMESTAMP '1970-01-01 00:00:00' + INTERVAL a.finished_us MICROSECOND AS finished_at,
    (a.finished_us - a.started_us) / 1e6 AS duration_s,
    JSON_UNQUOTE(JSON_EXTRACT(a.error, '$.type')) COLLATE {exact} AS error_type,
    JSON_UNQUOTE(JSON_EXTRACT(a.error, '$.message')) COLLATE {exact} AS error_message
FROM attempts AS a JOIN tasks AS t ON t.instance_id = a.instance_id AND t.ordinal = a.ordinal;

CREATE SQL SECURITY INVOKER VIEW v_events AS
SELECT
    instance_id,
    seq,
    TIMESTAMP '1970-01-01 00:00:00' + INTERVAL at_us MICROSECOND AS at,
    JSON_UNQUOTE(JSON_EXTRACT(body, '$.state')) COLLATE {exact} AS status,
    coalesce(CAST(JSON_EXTRACT(body, '$.run') AS SIGNED), 1) AS run,
    JSON_UNQUOTE(JSON_EXTRACT(body, '$.reason')) COLLATE {exact} AS reason,
    CAST(JSON_EXTRACT(body, '$.transitions') AS CHAR) COLLATE {exact} AS transitions
FROM events;

CREATE SQL SECURITY INVOKER VIEW v_logs AS
SELECT
    instance_id,
    id,
    task,
    attempt,
    level,
    TIMESTAMP '1970-01-01 00:00:00' + INTERVAL at_us MICROSECOND AS at,
    message
FROM logs;
