-- Times are microseconds UTC since 1970. JSON is text, exactly as it was written; the functions for JSON read it.
-- Texts compare by their code points, spaces at their ends included: MySQL calls this collation utf8mb4_0900_bin, and
-- gets that name. Statements may be repeated: what is made commits by itself here, so a step can be cut anywhere.

CREATE TABLE IF NOT EXISTS nodes (
    id VARCHAR(255) NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    holder LONGTEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

-- One row per batch that committed and may still be asked about.
CREATE TABLE IF NOT EXISTS batches (
    epoch BIGINT NOT NULL,
    lane INT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (epoch, lane, number)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS definitions (
    version VARCHAR(255) NOT NULL PRIMARY KEY,
    workflow_id VARCHAR(255) NOT NULL,
    canonical LONGTEXT NOT NULL,
    created_us BIGINT NOT NULL,
    number BIGINT NOT NULL AUTO_INCREMENT UNIQUE,
    INDEX definitions_by_workflow (workflow_id, created_us)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

-- version is the one that was saved last.
CREATE TABLE IF NOT EXISTS workflows (
    id VARCHAR(255) NOT NULL PRIMARY KEY,
    version VARCHAR(255) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS functions (
    name VARCHAR(512) NOT NULL PRIMARY KEY,
    path LONGTEXT NOT NULL,
    signature LONGTEXT NOT NULL,
    doc LONGTEXT NOT NULL,
    source_hash VARCHAR(255) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

-- state is what users see; it follows from phase, hold and final. open_us stands for an index of unfinished ones only.
CREATE TABLE IF NOT EXISTS instances (
    id VARCHAR(255) NOT NULL PRIMARY KEY,
    workflow_id VARCHAR(255) NOT NULL,
    version VARCHAR(255) NOT NULL,
    params LONGTEXT NOT NULL,
    created_us BIGINT NOT NULL,
    idempotency_key VARCHAR(255),
    state VARCHAR(255) NOT NULL,
    run INT NOT NULL,
    phase VARCHAR(255) NOT NULL,
    hold VARCHAR(255) NOT NULL,
    verdict VARCHAR(255) NOT NULL,
    final VARCHAR(255),
    compensate_asked SMALLINT NOT NULL,
    hard SMALLINT NOT NULL,
    deadline_us BIGINT,
    deadline_left_us BIGINT,
    started_us BIGINT,
    finished_us BIGINT,
    error LONGTEXT NOT NULL,
    open_us BIGINT GENERATED ALWAYS AS (CASE WHEN phase <> 'end' THEN created_us END) STORED,
    UNIQUE INDEX instances_by_key (workflow_id, idempotency_key),
    INDEX instances_by_age (created_us, id),
    INDEX instances_by_workflow (workflow_id, created_us, id),
    INDEX instances_by_state (state, created_us, id),
    INDEX instances_unfinished (open_us, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS tasks (
    instance_id VARCHAR(255) NOT NULL,
    ordinal INT NOT NULL,
    name VARCHAR(2000) NOT NULL,
    state VARCHAR(255) NOT NULL,
    attempt INT NOT NULL,
    tries INT NOT NULL,
    parent INT NOT NULL,
    spec LONGTEXT,
    added_by INT NOT NULL,
    begun SMALLINT NOT NULL,
    due_us BIGINT,
    park VARCHAR(255) NOT NULL,
    "key" VARCHAR(2000) NOT NULL,
    body_seq INT NOT NULL,
    losses INT NOT NULL,
    suspect SMALLINT NOT NULL,
    reason LONGTEXT NOT NULL,
    started_us BIGINT,
    finished_us BIGINT,
    result LONGTEXT,
    error LONGTEXT,
    PRIMARY KEY (instance_id, ordinal)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS attempts (
    instance_id VARCHAR(255) NOT NULL,
    ordinal INT NOT NULL,
    attempt INT NOT NULL,
    run INT NOT NULL,
    outcome VARCHAR(255) NOT NULL,
    started_us BIGINT,
    finished_us BIGINT,
    error LONGTEXT,
    PRIMARY KEY (instance_id, ordinal, attempt)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS events (
    instance_id VARCHAR(255) NOT NULL,
    seq BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    body LONGTEXT NOT NULL,
    PRIMARY KEY (instance_id, seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

-- number is the order in which the commands were accepted.
CREATE TABLE IF NOT EXISTS commands (
    instance_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL,
    kind VARCHAR(255) NOT NULL,
    answer LONGTEXT NOT NULL,
    number BIGINT NOT NULL AUTO_INCREMENT UNIQUE,
    PRIMARY KEY (instance_id, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;
