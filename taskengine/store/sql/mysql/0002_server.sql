-- What a server adds: the lines that tasks write, and who may come in.

-- By its key alone, so one line is one insert at the end of its instance's lines.
CREATE TABLE IF NOT EXISTS logs (
    instance_id VARCHAR(255) NOT NULL,
    id BIGINT NOT NULL,
    task LONGTEXT NOT NULL,
    attempt INT NOT NULL,
    level VARCHAR(255) NOT NULL,
    at_us BIGINT NOT NULL,
    message LONGTEXT NOT NULL,
    PRIMARY KEY (instance_id, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

-- digest is a hash; no secret is ever stored.
CREATE TABLE IF NOT EXISTS tokens (
    id VARCHAR(255) NOT NULL PRIMARY KEY,
    name LONGTEXT NOT NULL,
    scope VARCHAR(255) NOT NULL,
    digest VARCHAR(255) NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT,
    revoked_us BIGINT
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;
