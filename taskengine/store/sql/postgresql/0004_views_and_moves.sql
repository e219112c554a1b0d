-- How far this database has been filled from another one, as JSON; no row: its rows are its own.
CREATE TABLE moves (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    note text COLLATE "C" NOT NULL
);

-- Views for people who look into the database themselves: docs/sql-views.md. The engine asks none of them. Their names
-- and columns stay and are alike in all databases; later steps may add some. Times are UTC.
-- U+0000 in a JSON text is replaced before it is read: json itself refuses it.

CREATE VIEW v_workflows AS
SELECT
    w.id AS id,
    coalesce(replace(d.canonical, '\u0000', '\ufffd')::json ->> 'name', w.id) AS name,
    coalesce(replace(d.canonical, '\u0000', '\ufffd')::json ->> 'description', '') AS description,
    coalesce(json_array_length(replace(d.canonical, '\u0000', '\ufffd')::json -> 'tasks'), 0) AS task_count,
    w.version AS version,
    to_timestamp(0) + d.created_us * interval '1 microsecond' AS created_at
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
    to_timestamp(0) + created_us * interval '1 microsecond' AS created_at,
    to_timestamp(0) + started_us * interval '1 microsecond' AS started_at,
    to_timestamp(0) + finished_us * interval '1 microsecond' AS finished_at,
    (finished_us - started_us)::double precision / 1000000 AS duration_s,
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
            coalesce(replace(d.canonical, '\u0000', '\ufffd')::json ->> 'name', i.workflow_id) AS workflow_name,
            coalesce((replace(e.body, '\u0000', '\ufffd')::json -> 'progress' ->> 0)::integer, 0) AS completed,
            coalesce((replace(e.body, '\u0000', '\ufffd')::json -> 'progress' ->> 1)::integer, 0) AS failed,
            coalesce((replace(e.body, '\u0000', '\ufffd')::json -> 'progress' ->> 2)::integer, 0) AS running,
            coalesce((replace(e.body, '\u0000', '\ufffd')::json -> 'progress' ->> 3)::integer, 0) AS pending,
            coalesce((replace(e.body, '\u0000', '\ufffd')::json -> 'progress' ->> 4)::integer, 0) AS skipped,
            coalesce((replace(e.body, '\u0000', '\ufffd')::json -> 'progress' ->> 5)::integer, 0) AS cancelled,
            coalesce((replace(e.body, '\u0000', '\ufffd')::json -> 'progress' ->> 6)::integer, 0) AS compensation
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
    to_timestamp(0) + started_us * interval '1 microsecond' AS started_at,
    to_timestamp(0) + finished_us * interval '1 microsecond' AS finished_at,
    CASE WHEN state IN (
        'Success', 'Failed', 'TimedOut', 'Skipped', 'UpstreamFailed', 'Cancelled', 'Compensated', 'CompensationFailed'
    ) THEN (finished_us - started_us)::double precision / 1000000 END AS duration_s,
    to_timestamp(0) + due_us * interval '1 microsecond' AS due_at,
    nullif(reason, '') AS reason,
    CASE WHEN substr(result, 1, 1) <> '@' THEN result END AS result,
    CASE WHEN substr(result, 1, 1) = '@' THEN substr(result, 9, 64) END AS artifact_digest,
    CASE WHEN substr(result, 1, 1) = '@' THEN substr(result, 74)::bigint END AS artifact_size,
    replace(error, '\u0000', '\ufffd')::json ->> 'type' AS error_type,
    replace(error, '\u0000', '\ufffd')::json ->> 'message' AS error_message
FROM tasks;

CREATE VIEW v_attempts AS
SELECT
    a.instance_id,
    t.name AS task,
    a.attempt,
    a.run,
    a.outcome,
    to_timestamp(0) + a.started_us * interval '1 microsecond' AS started_at,
    to_timestamp(0) + a.finished_us * interval '1 microsecond' AS finished_at,
    (a.finished_us - a.started_us)::double precision / 1000000 AS duration_s,
    replace(a.error, '\u0000', '\ufffd')::json ->> 'type' AS error_type,
    replace(a.error, '\u0000', '\ufffd')::json ->> 'message' AS error_message
FROM attempts AS a JOIN tasks AS t ON t.instance_id = a.instance_id AND t.ordinal = a.ordinal;

CREATE VIEW v_events AS
SELECT
    instance_id,
    seq,
    to_timestamp(0) + at_us * interval '1 microsecond' AS at,
    replace(body, '\u0000', '\ufffd')::json ->> 'state' AS status,
    coalesce((replace(body, '\u0000', '\ufffd')::json ->> 'run')::integer, 1) AS run,
    replace(body, '\u0000', '\ufffd')::json ->> 'reason' AS reason,
    (replace(body, '\u0000', '\ufffd')::json -> 'transitions')::text AS transitions
FROM events;

CREATE VIEW v_logs AS
SELECT
    instance_id,
    id,
    task,
    attempt,
    level,
    to_timestamp(0) + at_us * interval '1 microsecond' AS at,
    message
FROM logs;
