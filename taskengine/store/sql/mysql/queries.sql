-- What MySQL and MariaDB say differently from ../queries.sql. Nothing here that one of the two does not understand.

-- name: lock
-- Locks of this kind are the server's and not the database's, so their names have the database in them.
SELECT GET_LOCK(?, ?);

-- name: used_lock
SELECT IS_USED_LOCK(?);

-- name: our_tables
SELECT count(*), coalesce(sum(table_name = 'taskengine_migrations'), 0) FROM information_schema.tables
WHERE table_schema = database()
AND table_name IN ('taskengine_migrations', 'instances', 'tasks', 'events', 'definitions', 'workflows');

-- name: make_migrations
-- done: how many statements of the step; at_us: when the last one was, NULL before.
CREATE TABLE IF NOT EXISTS taskengine_migrations (
    number INT NOT NULL PRIMARY KEY, name VARCHAR(200) NOT NULL, done INT NOT NULL, at_us BIGINT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- name: applied
SELECT coalesce(max(number), 0) FROM taskengine_migrations WHERE at_us IS NOT NULL;

-- name: begun_step
SELECT done FROM taskengine_migrations WHERE number = ?;

-- name: begin_step
INSERT INTO taskengine_migrations (number, name, done) VALUES (?, ?, 0);

-- name: note_statement
UPDATE taskengine_migrations SET done = ?, at_us = ? WHERE number = ?;

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
-- A condition. In UTF-8 no character hides in another one, so bytes can be looked for; and of all their bytes, read as
-- TIS-620, only the letters A to Z have a lower case. LOWER in utf8mb4 would also change those of every other script.
(instr(lower(convert(CAST(id AS BINARY) USING tis620)) COLLATE tis620_bin, convert(CAST(? AS BINARY) USING tis620)) > 0
OR instr(lower(convert(CAST(workflow_id AS BINARY) USING tis620)) COLLATE tis620_bin,
    convert(CAST(? AS BINARY) USING tis620)) > 0
OR instr(lower(convert(CAST(error AS BINARY) USING tis620)) COLLATE tis620_bin,
    convert(CAST(? AS BINARY) USING tis620)) > 0);

-- name: has_label
-- A condition.
version IN (
    SELECT d.version FROM definitions AS d
    WHERE json_contains(json_extract(d.canonical, '$.labels'), json_object(?, ?))
);

-- name: last_seqs
-- From the end of each instance's events; max(seq) would read all of them.
SELECT id, last FROM (
    SELECT i.id, (SELECT e.seq FROM events AS e WHERE e.instance_id = i.id ORDER BY e.seq DESC LIMIT 1) AS last
    FROM instances AS i WHERE i.id IN {texts ?}
) AS found WHERE last IS NOT NULL;

-- name: last_events
SELECT e.instance_id, e.seq, e.at_us, {e.body} FROM instances AS i STRAIGHT_JOIN events AS e
ON e.instance_id = i.id
AND e.seq = (SELECT l.seq FROM events AS l WHERE l.instance_id = i.id ORDER BY l.seq DESC LIMIT 1)
WHERE i.id IN {texts ?};
