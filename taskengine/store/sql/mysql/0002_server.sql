-- What a server adds: the lines that tasks write, and who may come in. The tables of the first step stay untouched.

-- By its key alone, so one line is one insert at the end of its instance's lines.
CREATE TABLE IF NOT EXISTS logs (
    instance_id VARCHAR(200) NOT NULL,
    id BIGINT NOT NULL,
    task LONGTEXT NOT NULL,
    attempt INT NOT NULL,
    level VARCHAR(32) NOT NULL,
    at_us BIGINT NOT NULL,
    message LONGTEXT NOT NULL,
    PRIMARY KEY (instance_id, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact};

-- digest is a hash; no secret is ever stored.
CREATE TABLE IF NOT EXISTS tokens (
    id VARCHAR(200) NOT NULL PRIMARY KEY,
    name LONGTEXT NOT NULL,
    scope VARCHAR(100) NOT NULL,
    digest VARCHAR(200) NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT,
    revoked_us BIGINT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact};

-- A definition is written once per version, never by running instances.
CREATE INDEX definitions_by_workflow ON definitions (workflow_id, created_us);
