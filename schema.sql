-- keyward's schema, version 5.
--
-- This file is the complete current schema: keyward creates a new database from it. All instants are unix
-- milliseconds, UTC. Intervals are half open: a `…_until_ms` is the first instant outside the interval.

PRAGMA application_id = 0x4B575244; -- "KWRD"
PRAGMA user_version = 5;

-- The audit log. Append-only, gapless, each row hashed together with the one before it.
CREATE TABLE events (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ms          INTEGER NOT NULL,
    type             TEXT    NOT NULL,
    account_id       TEXT,
    actor            TEXT    NOT NULL,
    actor_prefix     TEXT,
    actor_account_id TEXT,
    subject          TEXT    NOT NULL,
    request_id       TEXT,
    client_ip        TEXT,
    data             TEXT    NOT NULL CHECK (json_valid(data)),
    prev_hash        BLOB    NOT NULL CHECK (length(prev_hash) = 32),
    hash             BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE INDEX events_by_account ON events (account_id, seq);
CREATE INDEX events_by_subject ON events (subject, seq);
CREATE INDEX events_by_actor ON events (actor, seq);
CREATE INDEX events_by_type ON events (type, seq);
CREATE INDEX events_by_time ON events (time_ms);
-- Finds the last use of a retired credential of a key, independent of the number of events of the key.
CREATE INDEX events_of_retired_use ON events (subject, seq)
    WHERE type = 'api_key.retired_key_used';
-- Finds the newest event about new addresses of a key, independent of the number of its events.
CREATE INDEX events_of_new_address ON events (subject, seq)
    WHERE type = 'api_key.new_address';

CREATE TRIGGER events_are_never_updated BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

-- This trigger also stops REPLACE, which deletes a row without firing the trigger above.
CREATE TRIGGER events_have_no_gap BEFORE INSERT ON events
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only and has no gap'); END;

-- Complete subtrees of the Merkle tree over the events: those of 256 leaves (level 8), of 65,536
-- (level 16) and so on, so that a proof reads only a few rows. They are computed from the events.
CREATE TABLE event_tree (
    level    INTEGER NOT NULL,
    position INTEGER NOT NULL,
    hash     BLOB    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, position)
) STRICT, WITHOUT ROWID;

-- Signed checkpoints of the log. Append-only. They are computed from the log, so they need no event.
CREATE TABLE checkpoints (
    size    INTEGER PRIMARY KEY,        -- the number of events
    time_ms INTEGER NOT NULL,
    head    BLOB    NOT NULL CHECK (length(head) = 32), -- the hash of the newest event
    note    TEXT    NOT NULL
) STRICT;

CREATE TRIGGER checkpoints_are_never_updated BEFORE UPDATE ON checkpoints
BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END;

CREATE TRIGGER checkpoints_are_never_deleted BEFORE DELETE ON checkpoints
BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END;

CREATE TRIGGER checkpoints_follow_the_log BEFORE INSERT ON checkpoints
WHEN NEW.size <= (SELECT coalesce(max(size), 0) FROM checkpoints)
    OR NOT EXISTS (SELECT 1 FROM events WHERE seq = NEW.size AND hash = NEW.head)
BEGIN SELECT RAISE(ABORT, 'a checkpoint must say what the log is'); END;

CREATE TABLE accounts (
    id             TEXT    PRIMARY KEY,
    kind           TEXT    NOT NULL CHECK (kind IN ('operator', 'customer')),
    name           TEXT    NOT NULL,
    external_id    TEXT,
    status         TEXT    NOT NULL CHECK (status IN ('active', 'suspended')),
    allowed_scopes TEXT,                -- NULL: the whole catalogue
    max_keys       INTEGER CHECK (0 < max_keys), -- NULL: the server's limit
    metadata       TEXT    NOT NULL CHECK (json_valid(metadata)),
    created_at_ms  INTEGER NOT NULL,
    updated_at_ms  INTEGER NOT NULL,
    deleted_at_ms  INTEGER,             -- set: the row is a tombstone
    revision       INTEGER NOT NULL,
    audit_seq      INTEGER NOT NULL REFERENCES events (seq),
    rate_limit     INTEGER CHECK (0 < rate_limit),     -- for all its keys together; NULL: none
    rate_window_s  INTEGER CHECK (0 < rate_window_s),
    key_rate_limit INTEGER CHECK (0 < key_rate_limit), -- for each key without its own; NULL: none
    key_rate_window_s  INTEGER CHECK (0 < key_rate_window_s),
    max_lifetime_s     INTEGER CHECK (0 < max_lifetime_s),     -- of a key; NULL: the server's
    default_lifetime_s INTEGER CHECK (0 < default_lifetime_s), -- of a key; NULL: the server's
    token_exchange     INTEGER NOT NULL DEFAULT 0 CHECK (token_exchange IN (0, 1)),
    CHECK (kind = 'customer' OR (status = 'active' AND deleted_at_ms IS NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX accounts_one_operator ON accounts (kind) WHERE kind = 'operator';
CREATE UNIQUE INDEX accounts_external_id ON accounts (external_id) WHERE deleted_at_ms IS NULL;
CREATE INDEX accounts_by_age ON accounts (created_at_ms, id) WHERE deleted_at_ms IS NULL;
CREATE INDEX accounts_deleted ON accounts (deleted_at_ms) WHERE deleted_at_ms IS NOT NULL;

CREATE TABLE api_keys (
    id                     TEXT    PRIMARY KEY,
    account_id             TEXT    NOT NULL REFERENCES accounts (id),
    name                   TEXT    NOT NULL,
    scopes                 TEXT    NOT NULL, -- names, separated by a space
    enabled                INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    expires_at_ms          INTEGER,          -- NULL: never
    metadata               TEXT    NOT NULL CHECK (json_valid(metadata)),
    created_at_ms          INTEGER NOT NULL,
    created_by             TEXT,
    updated_at_ms          INTEGER NOT NULL,
    rotated_at_ms          INTEGER,
    revoked_at_ms          INTEGER,          -- set: the row is a tombstone
    expiry_recorded_at_ms  INTEGER,          -- when the scheduler recorded that it had expired
    revision               INTEGER NOT NULL,
    audit_seq              INTEGER NOT NULL REFERENCES events (seq),
    allowed_ips            TEXT,             -- networks with a blank between them; NULL: all
    rate_limit             INTEGER CHECK (0 < rate_limit), -- NULL: none of its own
    rate_window_s          INTEGER CHECK (0 < rate_window_s),
    announced_days         INTEGER,          -- the newest notice before its end: 30, 7 or 1 days
    console_link           INTEGER NOT NULL DEFAULT 0 CHECK (console_link IN (0, 1)),
    gives_until_ms         INTEGER           -- of a link: the latest end of the keys that it makes; NULL: any
) STRICT, WITHOUT ROWID;

CREATE INDEX api_keys_by_account ON api_keys (account_id, created_at_ms, id)
    WHERE revoked_at_ms IS NULL;
-- Lists the keys of all accounts by age.
CREATE INDEX api_keys_by_age ON api_keys (created_at_ms, id) WHERE revoked_at_ms IS NULL;
-- Counts the live keys of an account, and finds its oldest ended key, without reading the others.
CREATE INDEX api_keys_by_end ON api_keys (account_id, revoked_at_ms, expires_at_ms);
CREATE INDEX api_keys_by_expiry ON api_keys (expires_at_ms) WHERE expires_at_ms IS NOT NULL;
CREATE INDEX api_keys_with_unrecorded_expiry ON api_keys (expires_at_ms)
    WHERE expires_at_ms IS NOT NULL AND expiry_recorded_at_ms IS NULL AND revoked_at_ms IS NULL;
-- Finds the keys whose next notice is due, without reading those that were announced.
CREATE INDEX api_keys_by_notice ON api_keys (announced_days, expires_at_ms)
    WHERE expires_at_ms IS NOT NULL AND revoked_at_ms IS NULL;
CREATE INDEX api_keys_for_everything ON api_keys (account_id)
    WHERE revoked_at_ms IS NULL AND instr(' ' || scopes || ' ', ' * ') > 0;
-- Counts the links, which the limits of an account do not count, and finds those to purge.
CREATE INDEX api_keys_of_links ON api_keys (account_id, expires_at_ms) WHERE console_link = 1;
CREATE INDEX api_keys_of_ended_links ON api_keys (expires_at_ms) WHERE console_link = 1;
CREATE INDEX api_keys_revoked ON api_keys (revoked_at_ms) WHERE revoked_at_ms IS NOT NULL;

-- The credentials of the keys. The current credential of a key has no deadline. The rows are ordered by
-- key, so that a query of keys with their credentials reads adjacent rows.
CREATE TABLE credentials (
    key_id         TEXT    NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    prefix         TEXT    NOT NULL UNIQUE CHECK (length(prefix) = 12),
    phc            TEXT    NOT NULL,
    issued_at_ms   INTEGER NOT NULL,
    valid_until_ms INTEGER,
    ended_at_ms    INTEGER,             -- when the end of its grace was recorded
    audit_seq      INTEGER NOT NULL REFERENCES events (seq),
    PRIMARY KEY (key_id, prefix),
    CHECK (ended_at_ms IS NULL OR valid_until_ms IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX credentials_one_current ON credentials (key_id) WHERE valid_until_ms IS NULL;
CREATE INDEX credentials_in_grace ON credentials (valid_until_ms)
    WHERE valid_until_ms IS NOT NULL AND ended_at_ms IS NULL;
CREATE INDEX credentials_ended ON credentials (ended_at_ms) WHERE ended_at_ms IS NOT NULL;

-- A row is written only directly after its event, which is then the newest one in the log.
CREATE VIEW newest_event AS
SELECT seq, type, subject FROM events ORDER BY seq DESC LIMIT 1;

CREATE TRIGGER accounts_insert_is_audited BEFORE INSERT ON accounts
WHEN NOT EXISTS (SELECT 1 FROM newest_event WHERE seq = NEW.audit_seq AND subject = NEW.id)
BEGIN SELECT RAISE(ABORT, 'accounts changed without an event'); END;

CREATE TRIGGER accounts_change_is_audited BEFORE UPDATE ON accounts
WHEN NEW.audit_seq <= OLD.audit_seq OR NEW.id IS NOT OLD.id
    OR NOT EXISTS (SELECT 1 FROM newest_event WHERE seq = NEW.audit_seq AND subject = NEW.id)
BEGIN SELECT RAISE(ABORT, 'accounts changed without an event'); END;

CREATE TRIGGER accounts_purge_is_audited BEFORE DELETE ON accounts
WHEN NOT EXISTS (SELECT 1 FROM newest_event WHERE subject = OLD.id AND type = 'account.purged')
BEGIN SELECT RAISE(ABORT, 'accounts row deleted without an event'); END;

CREATE TRIGGER api_keys_insert_is_audited BEFORE INSERT ON api_keys
WHEN NOT EXISTS (SELECT 1 FROM newest_event WHERE seq = NEW.audit_seq AND subject = NEW.id)
BEGIN SELECT RAISE(ABORT, 'api_keys changed without an event'); END;

CREATE TRIGGER api_keys_change_is_audited BEFORE UPDATE ON api_keys
WHEN NEW.audit_seq <= OLD.audit_seq OR NEW.id IS NOT OLD.id
    OR NOT EXISTS (SELECT 1 FROM newest_event WHERE seq = NEW.audit_seq AND subject = NEW.id)
BEGIN SELECT RAISE(ABORT, 'api_keys changed without an event'); END;

CREATE TRIGGER api_keys_purge_is_audited BEFORE DELETE ON api_keys
WHEN NOT EXISTS (SELECT 1 FROM newest_event WHERE subject = OLD.id AND type = 'api_key.purged')
BEGIN SELECT RAISE(ABORT, 'api_keys row deleted without an event'); END;

CREATE TRIGGER credentials_insert_is_audited BEFORE INSERT ON credentials
WHEN NOT EXISTS (SELECT 1 FROM newest_event WHERE seq = NEW.audit_seq AND subject = NEW.key_id)
BEGIN SELECT RAISE(ABORT, 'credentials changed without an event'); END;

CREATE TRIGGER credentials_change_is_audited BEFORE UPDATE ON credentials
WHEN NEW.audit_seq <= OLD.audit_seq OR NEW.prefix IS NOT OLD.prefix
    OR NOT EXISTS (SELECT 1 FROM newest_event WHERE seq = NEW.audit_seq AND subject = NEW.key_id)
BEGIN SELECT RAISE(ABORT, 'credentials changed without an event'); END;

CREATE TRIGGER credentials_purge_is_audited BEFORE DELETE ON credentials
WHEN NOT EXISTS (SELECT 1 FROM newest_event WHERE subject = OLD.key_id AND type = 'api_key.purged')
BEGIN SELECT RAISE(ABORT, 'credentials row deleted without an event'); END;

-- The tables below change without an event. Each states the reason.

-- When a credential was last accepted. This changes thousands of times a second, and no person decides it.
-- The row with the prefix '' represents all deleted credentials of its key, so that the key's last use
-- never moves back.
CREATE TABLE credential_usage (
    key_id          TEXT    NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    prefix          TEXT    NOT NULL,
    last_used_at_ms INTEGER NOT NULL,
    PRIMARY KEY (key_id, prefix)
) STRICT, WITHOUT ROWID;

-- The number of each verdict, by key and day (days since 1970, UTC). The reason is the same.
CREATE TABLE key_usage (
    key_id              TEXT    NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    day                 INTEGER NOT NULL,
    valid               INTEGER NOT NULL,
    revoked             INTEGER NOT NULL,
    rotated             INTEGER NOT NULL,
    account_suspended   INTEGER NOT NULL,
    disabled            INTEGER NOT NULL,
    expired             INTEGER NOT NULL,
    insufficient_scopes INTEGER NOT NULL,
    ip_not_allowed      INTEGER NOT NULL DEFAULT 0,
    rate_limited        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (key_id, day)
) STRICT, WITHOUT ROWID;

CREATE INDEX key_usage_by_day ON key_usage (day);

-- The last day on which a key used a scope (days since 1970, UTC). For the same reason.
CREATE TABLE scope_usage (
    key_id   TEXT    NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    scope    TEXT    NOT NULL,
    last_day INTEGER NOT NULL,
    PRIMARY KEY (key_id, scope)
) STRICT, WITHOUT ROWID;

-- The last five addresses from which a key was used: IPv4 addresses and IPv6 networks. For the same
-- reason.
CREATE TABLE key_addresses (
    key_id           TEXT    NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    address          TEXT    NOT NULL,
    first_used_at_ms INTEGER NOT NULL,
    last_used_at_ms  INTEGER NOT NULL,
    announce_at_ms   INTEGER,           -- when the event about it is due; NULL: none is
    PRIMARY KEY (key_id, address)
) STRICT, WITHOUT ROWID;

CREATE INDEX key_addresses_to_announce ON key_addresses (announce_at_ms)
    WHERE announce_at_ms IS NOT NULL;

-- What a key or an account used of its rate limit in the window that began at `started_at_ms`. For
-- the same reason. `subject` is the identifier of the key or the account.
CREATE TABLE rate_windows (
    subject       TEXT    PRIMARY KEY,
    started_at_ms INTEGER NOT NULL,
    used          INTEGER NOT NULL CHECK (0 <= used),
    told          INTEGER NOT NULL CHECK (told IN (0, 80, 100)), -- the newest event about it, in per cent
    told_limit    INTEGER NOT NULL, -- the rate limit that this event is about
    told_window_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Answers to requests with an Idempotency-Key, for 24 hours. They repeat what an event tells, and
-- only the key that made the request can open them.
CREATE TABLE idempotent_answers (
    caller        TEXT    NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    token         BLOB    NOT NULL CHECK (length(token) = 32),   -- a digest of the Idempotency-Key
    request       BLOB    NOT NULL CHECK (length(request) = 32), -- a digest of the request
    subject       TEXT    NOT NULL,     -- the key that was created or rotated
    prefix        TEXT    NOT NULL,     -- of the credential that the answer shows
    sealed        BLOB    NOT NULL,     -- empty once this credential has ended
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (caller, token)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_at_ms);
CREATE INDEX idempotent_answers_by_subject ON idempotent_answers (subject) WHERE sealed <> x'';

-- The places of credentials in the token status list. A place follows from an exchange, which is a use
-- of a key and changes nothing. It is given, then retired, then free; a free place is given again.
CREATE TABLE token_status (
    idx        INTEGER PRIMARY KEY CHECK (0 <= idx),
    prefix     TEXT    UNIQUE,               -- the credential that has the place
    retired_ms INTEGER,               -- since when no credential has it; NULL: given, or free
    CHECK (prefix IS NULL OR retired_ms IS NULL)
) STRICT;

-- Finds the places to be freed, and the lowest free one.
CREATE INDEX token_status_retired ON token_status (retired_ms) WHERE retired_ms IS NOT NULL;
CREATE INDEX token_status_free ON token_status (idx) WHERE prefix IS NULL AND retired_ms IS NULL;

-- The newest event that each webhook has delivered. Delivery changes nothing that an event tells.
CREATE TABLE webhook_cursors (
    name             TEXT    PRIMARY KEY,
    target           TEXT    NOT NULL,   -- SHA-256 of the URL; another URL is another receiver
    seq              INTEGER NOT NULL CHECK (0 <= seq),
    attempts         INTEGER NOT NULL CHECK (0 <= attempts), -- at the event after it
    next_attempt_ms  INTEGER,
    disabled_at_ms   INTEGER            -- the receiver answered 410 Gone
) STRICT, WITHOUT ROWID;

-- How many keys of each account are stored, including revoked and expired ones. The number is computed
-- from api_keys; the triggers below maintain it.
CREATE TABLE key_counts (
    account_id TEXT    PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    stored     INTEGER NOT NULL CHECK (0 <= stored)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER api_keys_insert_is_counted AFTER INSERT ON api_keys
BEGIN
    INSERT INTO key_counts (account_id, stored) VALUES (NEW.account_id, 1)
    ON CONFLICT (account_id) DO UPDATE SET stored = stored + 1;
END;

CREATE TRIGGER api_keys_purge_is_counted AFTER DELETE ON api_keys
BEGIN UPDATE key_counts SET stored = stored - 1 WHERE account_id = OLD.account_id; END;

-- Every brand, the first characters of keys, that was ever configured. keyward needs them to recognise
-- older keys. They come from the configuration, which the event of the start shows.
CREATE TABLE key_brands (
    brand            TEXT    PRIMARY KEY,
    first_used_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The latest confirmed wall time: keyward's time never goes behind it. Written every minute.
CREATE TABLE time_floor (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    floor_ms INTEGER NOT NULL
) STRICT;

-- The secret that the key prefixes of imported keys depend on. Random, made at the first import; it
-- belongs to no key and no account.
CREATE TABLE import_secret (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    digests BLOB    NOT NULL CHECK (length(digests) = 32)
) STRICT;

-- The key prefix of every key that was ever imported, purged keys included: a file that is imported
-- again must not bring a revoked key back. Also the prefix of every removed credential of keyward's own:
-- an import of its digest must not make its text good again. The events of imports and purges name them.
CREATE TABLE imported_values (
    prefix TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- The accounts that `keyward apply` made and `apply --prune` did not suspend yet. Only these does it suspend.
CREATE TABLE applied_accounts (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The keys that `keyward apply` made, by the prefix of the digest in the file. Only these does `apply --prune`
-- revoke. A rotated key keeps its row, so that the file still finds it.
CREATE TABLE applied_keys (
    prefix TEXT PRIMARY KEY,
    key_id TEXT NOT NULL UNIQUE REFERENCES api_keys (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
