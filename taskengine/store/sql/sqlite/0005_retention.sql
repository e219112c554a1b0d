-- Ended instances are taken away in two steps: their own row goes at once, what else they have left in slices.

-- Instances whose row is gone and who have rows in other tables.
CREATE TABLE removed (instance_id TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;
