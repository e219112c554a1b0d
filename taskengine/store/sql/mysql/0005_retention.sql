-- Ended instances are taken away in two steps: their own row goes at once, what else they have left in slices.

-- Instances whose row is gone and who have rows in other tables.
CREATE TABLE IF NOT EXISTS removed (
    instance_id VARCHAR(200) NOT NULL PRIMARY KEY
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact};
