-- Times are microseconds UTC since 1970. JSON is text, exactly as it was written: the type JSON would write it anew.
-- {exact} is this server's collation of utf8mb4 by code points in which a space at the end counts, as in the other
-- databases; its name is one in MySQL and another in MariaDB. Every statement here may be run twice: see migrate.

CREATE TABLE IF NOT EXISTS nodes (
    id VARCHAR(100) NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    holder LONGTEXT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact};

-- One row per batch that committed and may still be asked about.
CREATE TABLE IF NOT EXISTS batches (
    epoch BIGINT NOT NULL,
    lane INT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (epoch, lane, number)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact};

CREATE TABLE IF NOT EXISTS definitions (
    version VARCHAR(128) NOT NULL PRIMARY KEY,
    workflow_id VARCHAR(255) NOT NULL,
    canonical LONGTEXT NOT NULL,
    created_us BIGINT NOT NULL,
    number BIGINT NOT NULL AUTO_INCREMENT UNIQUE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact};

-- version is the one that was saved last.
CREATE TABLE IF NOT EXISTS workflows (
    id VARCHAR(255) NOT NULL PRIMARY KEY,
    version VARCHAR(128) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact};

CREATE TABLE IF NOT EXISTS functions (
    name VARCHAR(600) NOT NULL PRIMARY KEY,
    path LONGTEXT NOT NULL,
    signature LONGTEXT NOT NULL,
    doc LONGTEXT NOT NULL,
    source_hash VARCHAR(128) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact};

-- state is what users see; it follows from phase, hold and final. open_us stands in for an index with a condition, which
-- neither server has: it is created_us until the end, and the index of what is unfinished leads over it.
CREATE TABLE IF NOT EXISTS instances (
    id VARCHAR(200) NOT NULL PRIMARY KEY,
    workflow_id VARCHAR(255) NOT NULL,
    version VARCHAR(128) NOT NULL,
    params LONGTEXT NOT NULL,
    created_us BIGINT NOT NULL,
    idempotency_key VARCHAR(400),
    state VARCHAR(32) NOT NULL,
    run INT NOT NULL,
    phase VARCHAR(32) NOT NULL,
    hold VARCHAR(32) NOT NULL,
    verdict VARCHAR(32) NOT NULL,
    final VARCHAR(32),
    compensate_asked TINYINT NOT NULL,
    hard TINYINT NOT NULL,
    deadline_us BIGINT,
    deadline_left_us BIGINT,
    started_us BIGINT,
    finished_us BIGINT,
    error LONGTEXT NOT NULL,
    open_us BIGINT GENERATED ALWAYS AS (CASE WHEN phase = 'end' THEN NULL ELSE created_us END) STORED,
    UNIQUE INDEX instances_by_key (workflow_id, idempotency_key),
    INDEX instances_by_age (created_us, id),
    INDEX instances_by_workflow (workflow_id, created_us, id),
    INDEX instances_by_state (state, created_us, id),
    INDEX instances_unfinished (open_us, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact};

-- No index beside the key on this hot table: without a condition, one on due_us would hold every task there ever was.
CREATE TABLE IF NOT EXISTS tasks (
    instance_id VARCHAR(200) NOT NULL,
    ordinal INT NOT NULL,
    name VARCHAR(4000) NOT NULL,
    state VARCHAR(32) NOT NULL,
    attempt INT NOT NULL,
    tries INT NOT NULL,
    parent INT NOT NULL,
    spec LONGTEXT,
    added_by INT NOT NULL,
    begun TINYINT NOT NULL,
    due_us BIGINT,
    park VARCHAR(32) NOT NULL,
    `key` VARCHAR(1000) NOT NULL,
    body_seq INT NOT NULL,
    losses INT NOT NULL,
    suspect TINYINT NOT NULL,
    reason LONGTEXT NOT NULL,
    started_us BIGINT,
    finished_us BIGINT,
    result LONGTEXT,
    error LONGTEXT,
    PRIMARY KEY (instance_id, ordinal)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact};

CREATE TABLE IF NOT EXISTS attempts (
    instance_id VARCHAR(200) NOT NULL,
    ordinal INT NOT NULL,
    attempt INT NOT NULL,
    run INT NOT NULL,
    outcome VARCHAR(32) NOT NULL,
    started_us BIGINT,
    finished_us BIGINT,
    error LONGTEXT,
    PRIMARY KEY (instance_id, ordinal, attempt)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact};

CREATE TABLE IF NOT EXISTS events (
    instance_id VARCHAR(200) NOT NULL,
    seq BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    body LONGTEXT NOT NULL,
    PRIMARY KEY (instance_id, seq)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact};

-- number is the order in which the commands were accepted.
CREATE TABLE IF NOT EXISTS commands (
    instance_id VARCHAR(200) NOT NULL,
    id VARCHAR(200) NOT NULL,
    kind VARCHAR(100) NOT NULL,
    answer LONGTEXT NOT NULL,
    number BIGINT NOT NULL AUTO_INCREMENT UNIQUE,
    PRIMARY KEY (instance_id, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact};
