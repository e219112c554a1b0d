-- What PostgreSQL says differently from ../queries.sql, and how it is written to.

-- name: set_up_lane
-- A few rows by their key against tables of any size, whose statistics are old or not there yet: never a whole table.
-- And the server asks after us: a machine that lost its power says no good-bye, and would keep its lock for two hours.
SELECT set_config(name, value, false) FROM (VALUES
    ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('jit', 'off'),
    ('tcp_keepalives_idle', '20'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3')
) AS wanted (name, value);

-- name: set_up_reader
-- Whatever the statistics say: lists are read from an index in their order and joined row by row.
SELECT set_config(name, value, false) FROM (VALUES
    ('default_transaction_read_only', 'on'), ('jit', 'off'), ('enable_seqscan', 'off'), ('enable_bitmapscan', 'off'),
    ('enable_sort', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off')
) AS wanted (name, value);

-- name: lock
SELECT pg_advisory_lock(hashtextextended('taskengine ' || current_schema(), 0));

-- name: is_locked
SELECT EXISTS (
    SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32) | objid::bigint = hashtextextended('taskengine ' || current_schema(), 0)
);

-- name: count_on
-- The numbers that a table gives its rows go on after this one.
SELECT setval(pg_get_serial_sequence(?, 'number'), greatest(nextval(pg_get_serial_sequence(?, 'number')), ?));

-- name: our_tables
SELECT count(*), count(*) FILTER (WHERE relname = 'taskengine_migrations') FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
AND relname IN ('taskengine_migrations', 'instances', 'tasks', 'events', 'definitions', 'workflows');

-- name: make_migrations
CREATE TABLE IF NOT EXISTS taskengine_migrations (
    number integer NOT NULL PRIMARY KEY, name text NOT NULL, at_us bigint NOT NULL
);

-- name: applied
SELECT coalesce(max(number), 0) FROM taskengine_migrations;

-- name: note_migration
INSERT INTO taskengine_migrations (number, name, at_us) VALUES (?, ?, ?);

-- name: advance_epoch
INSERT INTO nodes (id, epoch, holder) VALUES ('local', 1, ?)
ON CONFLICT (id) DO UPDATE SET epoch = nodes.epoch + 1, holder = excluded.holder;

-- name: note_holder
UPDATE nodes SET holder = ? WHERE id = 'local' AND epoch = ?;

-- name: read_holder
SELECT holder FROM nodes WHERE id = 'local';

-- name: size
SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class AS c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r';

-- name: contains
-- A condition. The collation of these columns knows only the letters A to Z, so lower leaves all others alone.
(strpos(lower(id), ?) > 0 OR strpos(lower(workflow_id), ?) > 0 OR strpos(lower(error), ?) > 0);

-- name: has_label
-- A condition.
version IN (
    SELECT d.version FROM definitions AS d, json_each_text(d.canonical::json -> 'labels') AS label
    WHERE label.key = ? AND label.value = ?
);

-- name: commit_batch
SELECT pg_temp.commit_batch(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: make_commit_batch
-- A batch is one call of this function and so one transaction with one way there and back: no connection can end in the
-- middle of it and leave a transaction open. Each table comes as one JSON list, since the driver needs a tenth of the
-- time for a text that it needs for arrays of twenty columns, and the server reads it as fast. The function belongs to
-- the session, like a prepared statement; nothing of it stays.
CREATE FUNCTION pg_temp.commit_batch(
    in_epoch bigint, in_lane integer, in_number bigint, in_acknowledged bigint, seldom json,
    new_instances json, moved_instances json, moved_instances_count bigint,
    new_tasks json, moved_tasks json, moved_tasks_count bigint,
    in_attempts json, in_events json, in_commands json
) RETURNS boolean LANGUAGE plpgsql AS $body$
DECLARE
    found_rows bigint;
    rows_left bigint;
    noted text[];
BEGIN
    INSERT INTO batches (epoch, lane, number)
    SELECT n.epoch, in_lane, in_number FROM nodes AS n WHERE n.id = 'local' AND n.epoch = in_epoch FOR SHARE;
    GET DIAGNOSTICS found_rows = ROW_COUNT;
    IF found_rows <> 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'TE001', MESSAGE = 'the epoch has moved on';
    END IF;
    IF seldom IS NOT NULL THEN
        INSERT INTO definitions (version, workflow_id, canonical, created_us)
        SELECT version, workflow_id, canonical, created_us FROM json_to_recordset(seldom -> 'definitions')
            AS x (version text, workflow_id text, canonical text, created_us bigint)
        ON CONFLICT (version) DO NOTHING;
        INSERT INTO workflows (id, version)
        SELECT id, version FROM json_to_recordset(seldom -> 'current') AS x (id text, version text) ORDER BY id
        ON CONFLICT (id) DO UPDATE SET version = excluded.version;
        DELETE FROM workflows WHERE id IN (SELECT id FROM json_to_recordset(seldom -> 'removals') AS x (id text));
        INSERT INTO functions (name, path, signature, doc, source_hash)
        SELECT name, path, signature, doc, source_hash FROM json_to_recordset(seldom -> 'functions')
            AS x (name text, path text, signature text, doc text, source_hash text) ORDER BY name
        ON CONFLICT (name) DO UPDATE SET path = excluded.path, signature = excluded.signature,
            doc = excluded.doc, source_hash = excluded.source_hash;
        INSERT INTO logs (instance_id, id, task, attempt, level, at_us, message)
        SELECT instance_id, id, task, attempt, level, at_us, message FROM json_to_recordset(seldom -> 'logs') AS x (
            instance_id text, id bigint, task text, attempt integer, level text, at_us bigint, message text
        ) ON CONFLICT (instance_id, id) DO NOTHING;
        INSERT INTO artifacts (instance_id, ordinal, name, digest, size, at_us)
        SELECT instance_id, ordinal, name, digest, size, at_us FROM json_to_recordset(seldom -> 'artifacts') AS x (
            instance_id text, ordinal integer, name text, digest text, size bigint, at_us bigint
        ) ON CONFLICT (instance_id, ordinal, name) DO UPDATE SET digest = excluded.digest, size = excluded.size,
            at_us = excluded.at_us;
        INSERT INTO tokens (id, name, scope, digest, created_us, expires_us, revoked_us)
        SELECT id, name, scope, digest, created_us, expires_us, revoked_us
        FROM json_to_recordset(seldom -> 'tokens') AS x (
            id text, name text, scope text, digest text, created_us bigint, expires_us bigint, revoked_us bigint
        ) ORDER BY id ON CONFLICT (id) DO UPDATE SET name = excluded.name, scope = excluded.scope,
            digest = excluded.digest, created_us = excluded.created_us, expires_us = excluded.expires_us,
            revoked_us = excluded.revoked_us;
    END IF;
    IF new_instances IS NOT NULL THEN
        INSERT INTO instances (
            id, workflow_id, version, params, created_us, idempotency_key, state, run, phase, hold, verdict, final,
            compensate_asked, hard, deadline_us, deadline_left_us, started_us, finished_us, error
        )
        SELECT
            id, workflow_id, version, params, created_us, idempotency_key, state, run, phase, hold, verdict, final,
            compensate_asked, hard, deadline_us, deadline_left_us, started_us, finished_us, error
        FROM json_to_recordset(new_instances) AS x (
            id text, workflow_id text, version text, params text, created_us bigint, idempotency_key text, state text,
            run integer, phase text, hold text, verdict text, final text, compensate_asked smallint, hard smallint,
            deadline_us bigint, deadline_left_us bigint, started_us bigint, finished_us bigint, error text
        );
    END IF;
    IF moved_instances IS NOT NULL THEN
        UPDATE instances AS t SET
            state = x.state, run = x.run, phase = x.phase, hold = x.hold, verdict = x.verdict, final = x.final,
            compensate_asked = x.compensate_asked, hard = x.hard, deadline_us = x.deadline_us,
            deadline_left_us = x.deadline_left_us, started_us = x.started_us, finished_us = x.finished_us,
            error = x.error
        FROM json_to_recordset(moved_instances) AS x (
            state text, run integer, phase text, hold text, verdict text, final text, compensate_asked smallint,
            hard smallint, deadline_us bigint, deadline_left_us bigint, started_us bigint, finished_us bigint,
            error text, id text, at_phase text, at_hold text, at_run integer
        )
        WHERE t.id = x.id COLLATE "C" AND t.phase = x.at_phase COLLATE "C" AND t.hold = x.at_hold COLLATE "C"
            AND t.run = x.at_run;
        GET DIAGNOSTICS found_rows = ROW_COUNT;
        IF found_rows <> moved_instances_count THEN
            RAISE EXCEPTION USING ERRCODE = 'TE002', MESSAGE = 'moved', TABLE = 'instances';
        END IF;
    END IF;
    IF new_tasks IS NOT NULL THEN
        INSERT INTO tasks (
            instance_id, ordinal, name, state, attempt, tries, parent, spec, added_by, begun, due_us, park, key,
            body_seq, losses, suspect, reason, started_us, finished_us, result, error
        )
        SELECT
            instance_id, ordinal, name, state, attempt, tries, parent, spec, added_by, begun, due_us, park, key,
            body_seq, losses, suspect, reason, started_us, finished_us, result, error
        FROM json_to_recordset(new_tasks) AS x (
            instance_id text, ordinal integer, name text, state text, attempt integer, tries integer, parent integer,
            spec text, added_by integer, begun smallint, due_us bigint, park text, key text, body_seq integer,
            losses integer, suspect smallint, reason text, started_us bigint, finished_us bigint, result text,
            error text
        );
    END IF;
    IF moved_tasks IS NOT NULL THEN
        UPDATE tasks AS t SET
            name = x.name, state = x.state, attempt = x.attempt, tries = x.tries, parent = x.parent, spec = x.spec,
            added_by = x.added_by, begun = x.begun, due_us = x.due_us, park = x.park, key = x.key,
            body_seq = x.body_seq, losses = x.losses, suspect = x.suspect, reason = x.reason,
            started_us = x.started_us, finished_us = x.finished_us,
            result = CASE WHEN x.new_result = 1 THEN x.result ELSE t.result END,
            error = CASE WHEN x.new_error = 1 THEN x.error ELSE t.error END
        FROM json_to_recordset(moved_tasks) AS x (
            name text, state text, attempt integer, tries integer, parent integer, spec text, added_by integer,
            begun smallint, due_us bigint, park text, key text, body_seq integer, losses integer, suspect smallint,
            reason text, started_us bigint, finished_us bigint, new_result smallint, result text, new_error smallint,
            error text, instance_id text, ordinal integer, at_state text, at_attempt integer
        )
        WHERE t.instance_id = x.instance_id COLLATE "C" AND t.ordinal = x.ordinal
            AND t.state = x.at_state COLLATE "C" AND t.attempt = x.at_attempt;
        GET DIAGNOSTICS found_rows = ROW_COUNT;
        IF found_rows <> moved_tasks_count THEN
            RAISE EXCEPTION USING ERRCODE = 'TE002', MESSAGE = 'moved', TABLE = 'tasks';
        END IF;
    END IF;
    IF in_attempts IS NOT NULL THEN
        INSERT INTO attempts (instance_id, ordinal, attempt, run, outcome, started_us, finished_us, error)
        SELECT instance_id, ordinal, attempt, run, outcome, started_us, finished_us, error
        FROM json_to_recordset(in_attempts) AS x (
            instance_id text, ordinal integer, attempt integer, run integer, outcome text, started_us bigint,
            finished_us bigint, error text
        );
    END IF;
    IF in_events IS NOT NULL THEN
        INSERT INTO events (instance_id, seq, at_us, body)
        SELECT instance_id, seq, at_us, body FROM json_to_recordset(in_events)
            AS x (instance_id text, seq bigint, at_us bigint, body text);
    END IF;
    IF in_commands IS NOT NULL THEN
        INSERT INTO commands (instance_id, id, kind, answer)
        SELECT instance_id, id, kind, answer FROM json_to_recordset(in_commands)
            AS x (instance_id text, id text, kind text, answer text);
    END IF;
    IF seldom -> 'instances' IS NOT NULL THEN
        DELETE FROM instances AS t USING json_to_recordset(seldom -> 'instances') AS x (id text, at_run integer)
        WHERE t.id = x.id COLLATE "C" AND t.phase = 'end' AND t.run = x.at_run;
        GET DIAGNOSTICS found_rows = ROW_COUNT;
        IF found_rows <> json_array_length(seldom -> 'instances') THEN
            RAISE EXCEPTION USING ERRCODE = 'TE002', MESSAGE = 'moved', TABLE = 'instances';
        END IF;
        INSERT INTO removed (instance_id) SELECT id FROM json_to_recordset(seldom -> 'instances') AS x (id text);
    END IF;
    IF seldom -> 'sweep' IS NOT NULL THEN
        rows_left := seldom -> 'sweep' ->> 'rows';
        noted := ARRAY(
            SELECT instance_id FROM removed ORDER BY instance_id LIMIT (seldom -> 'sweep' ->> 'instances')::bigint
        );
        DELETE FROM logs WHERE ctid = ANY (
            ARRAY(SELECT ctid FROM logs WHERE instance_id = ANY (noted) LIMIT rows_left)
        );
        GET DIAGNOSTICS found_rows = ROW_COUNT;
        rows_left := rows_left - found_rows;
        DELETE FROM artifacts WHERE ctid = ANY (
            ARRAY(SELECT ctid FROM artifacts WHERE instance_id = ANY (noted) LIMIT rows_left)
        );
        GET DIAGNOSTICS found_rows = ROW_COUNT;
        rows_left := rows_left - found_rows;
        DELETE FROM attempts WHERE ctid = ANY (
            ARRAY(SELECT ctid FROM attempts WHERE instance_id = ANY (noted) LIMIT rows_left)
        );
        GET DIAGNOSTICS found_rows = ROW_COUNT;
        rows_left := rows_left - found_rows;
        DELETE FROM commands WHERE ctid = ANY (
            ARRAY(SELECT ctid FROM commands WHERE instance_id = ANY (noted) LIMIT rows_left)
        );
        GET DIAGNOSTICS found_rows = ROW_COUNT;
        rows_left := rows_left - found_rows;
        DELETE FROM tasks WHERE ctid = ANY (
            ARRAY(SELECT ctid FROM tasks WHERE instance_id = ANY (noted) LIMIT rows_left)
        );
        GET DIAGNOSTICS found_rows = ROW_COUNT;
        rows_left := rows_left - found_rows;
        DELETE FROM events WHERE ctid = ANY (
            ARRAY(SELECT ctid FROM events WHERE instance_id = ANY (noted) AND seq > 1 LIMIT rows_left)
        );
        GET DIAGNOSTICS found_rows = ROW_COUNT;
        IF rows_left > found_rows THEN
            DELETE FROM events WHERE instance_id = ANY (noted);
            DELETE FROM removed WHERE instance_id = ANY (noted);
        END IF;
    END IF;
    DELETE FROM batches WHERE epoch = in_epoch AND lane = in_lane AND number < in_acknowledged;
    RETURN true;
END
$body$;
