-- The server imports digests only, so nothing recognises a secret outside of the database any more.
-- Made anew rather than altered, so that SQLite keeps the same text as for a new file.

CREATE TEMP TABLE kept AS SELECT id, digests FROM import_secret;
DROP TABLE import_secret;
CREATE TABLE import_secret (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    digests BLOB    NOT NULL CHECK (length(digests) = 32)
) STRICT;
INSERT INTO import_secret (id, digests) SELECT id, digests FROM kept;
DROP TABLE kept;
