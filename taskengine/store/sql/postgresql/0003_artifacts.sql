-- What tasks have left in the artifact store, by the hash of its content: large results, which a task's row then names.
CREATE TABLE artifacts (
    instance_id text COLLATE "C" NOT NULL,
    ordinal integer NOT NULL,
    name text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    size bigint NOT NULL,
    at_us bigint NOT NULL,
    PRIMARY KEY (instance_id, ordinal, name)
);

-- A file goes when no row names it.
CREATE INDEX artifacts_by_digest ON artifacts (digest);
