-- Imported keys are found by a tag under a secret of this database.

CREATE TABLE import_secret (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    secret BLOB    NOT NULL CHECK (length(secret) = 32)
) STRICT;
