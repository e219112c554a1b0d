-- What tasks have left in the artifact store, by the hash of its content: large results, which a task's row then names.
-- A file goes when no row names it, so there is an index by hash.
CREATE TABLE IF NOT EXISTS artifacts (
    instance_id VARCHAR(255) NOT NULL,
    ordinal INT NOT NULL,
    name VARCHAR(255) NOT NULL,
    digest VARCHAR(255) NOT NULL,
    size BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (instance_id, ordinal, name),
    INDEX artifacts_by_digest (digest)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE={exact};
