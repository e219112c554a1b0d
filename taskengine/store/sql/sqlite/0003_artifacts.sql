-- What tasks have left in the artifact store, by the hash of its content: large results, which a task's row then names.
CREATE TABLE artifacts (
    instance_id TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (instance_id, ordinal, name)
) STRICT, WITHOUT ROWID;

-- A file goes when no row names it.
CREATE INDEX artifacts_by_digest ON artifacts (digest);
