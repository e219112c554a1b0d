-- What MySQL and MariaDB say differently from ../queries.sql. Writing is put together in mysql_batch.py.

-- name: our_tables
SELECT count(*), coalesce(sum(table_name = 'taskengine_migrations'), 0) FROM information_schema.tables
WHERE table_schema = database()
AND table_name IN ('taskengine_migrations', 'instances', 'tasks', 'events', 'definitions', 'workflows');

-- name: make_migrations
CREATE TABLE IF NOT EXISTS taskengine_migrations (
    number INT NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL, at_us BIGINT NOT NULL, statements INT NOT NULL,
    done SMALLINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

-- name: applied
SELECT coalesce(max(number), 0) FROM taskengine_migrations WHERE done = 1;

-- name: statements_done
SELECT coalesce(max(statements), 0) FROM taskengine_migrations WHERE number = ?;

-- name: note_migration
INSERT INTO taskengine_migrations (number, name, at_us, statements, done) VALUES (?, ?, ?, ?, ?)
ON DUPLICATE KEY UPDATE at_us = VALUES(at_us), statements = VALUES(statements), done = VALUES(done);

-- name: lock
SELECT get_lock(concat('taskengine.', md5(database())), ?);

-- name: advance_epoch
INSERT INTO nodes (id, epoch, holder) VALUES ('local', 1, ?)
ON DUPLICATE KEY UPDATE epoch = epoch + 1, holder = VALUES(holder);

-- name: note_holder
UPDATE nodes SET holder = ? WHERE id = 'local' AND epoch = ?;

-- name: read_holder
SELECT holder FROM nodes WHERE id = 'local';

-- name: size
SELECT sum(data_length + index_length) FROM information_schema.tables WHERE table_schema = database();

-- name: unfinished
-- What follows the columns.
WHERE open_us >= ? AND (open_us > ? OR id > ?) ORDER BY open_us, id LIMIT ?;

-- name: contains
-- A condition. Only the letters A to Z have a case here: tis620 is a character set whose other characters have none, and
-- which takes bytes as they are.
(
    instr(lower(convert(cast(id AS BINARY) USING tis620)), convert(cast(? AS BINARY) USING tis620)) > 0
    OR instr(lower(convert(cast(workflow_id AS BINARY) USING tis620)), convert(cast(? AS BINARY) USING tis620)) > 0
    OR instr(lower(convert(cast(error AS BINARY) USING tis620)), convert(cast(? AS BINARY) USING tis620)) > 0
);

-- name: has_label
-- A condition.
version IN (
    SELECT d.version FROM definitions AS d
    WHERE json_contains(json_extract(d.canonical, '$.labels'), json_object(?, ?)) = 1
);
