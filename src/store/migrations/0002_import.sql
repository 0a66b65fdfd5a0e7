-- Imported keys are found by a tag under a secret of this database.

CREATE TABLE import_secret (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    digests BLOB    NOT NULL CHECK (length(digests) = 32),
    texts   BLOB    CHECK (length(texts) = 32)
) STRICT;

CREATE TABLE imported_values (
    prefix TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
