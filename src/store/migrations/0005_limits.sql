-- Limits for keys and accounts, and what they, uses, safe retries, webhooks and reports remember.

ALTER TABLE accounts ADD COLUMN rate_limit     INTEGER CHECK (0 < rate_limit);
ALTER TABLE accounts ADD COLUMN rate_window_s  INTEGER CHECK (0 < rate_window_s);
ALTER TABLE accounts ADD COLUMN key_rate_limit INTEGER CHECK (0 < key_rate_limit);
ALTER TABLE accounts ADD COLUMN key_rate_window_s  INTEGER CHECK (0 < key_rate_window_s);
ALTER TABLE accounts ADD COLUMN max_lifetime_s     INTEGER CHECK (0 < max_lifetime_s);
ALTER TABLE accounts ADD COLUMN default_lifetime_s INTEGER CHECK (0 < default_lifetime_s);
ALTER TABLE accounts ADD COLUMN token_exchange     INTEGER NOT NULL DEFAULT 0 CHECK (token_exchange IN (0, 1));
ALTER TABLE api_keys ADD COLUMN allowed_ips            TEXT;
ALTER TABLE api_keys ADD COLUMN rate_limit             INTEGER CHECK (0 < rate_limit);
ALTER TABLE api_keys ADD COLUMN rate_window_s          INTEGER CHECK (0 < rate_window_s);
ALTER TABLE api_keys ADD COLUMN announced_days         INTEGER;
ALTER TABLE api_keys ADD COLUMN console_link           INTEGER NOT NULL DEFAULT 0 CHECK (console_link IN (0, 1));
ALTER TABLE api_keys ADD COLUMN gives_until_ms         INTEGER;
ALTER TABLE key_usage ADD COLUMN ip_not_allowed      INTEGER NOT NULL DEFAULT 0;
ALTER TABLE key_usage ADD COLUMN rate_limited        INTEGER NOT NULL DEFAULT 0;

CREATE INDEX api_keys_by_age ON api_keys (created_at_ms, id) WHERE revoked_at_ms IS NULL;
CREATE INDEX api_keys_by_notice ON api_keys (announced_days, expires_at_ms)
    WHERE expires_at_ms IS NOT NULL AND revoked_at_ms IS NULL;
CREATE INDEX api_keys_of_links ON api_keys (account_id, expires_at_ms) WHERE console_link = 1;
CREATE INDEX api_keys_of_ended_links ON api_keys (expires_at_ms) WHERE console_link = 1;

CREATE TABLE rate_windows (
    subject       TEXT    PRIMARY KEY,
    started_at_ms INTEGER NOT NULL,
    used          INTEGER NOT NULL CHECK (0 <= used),
    told          INTEGER NOT NULL CHECK (told IN (0, 80, 100)),
    told_limit    INTEGER NOT NULL,
    told_window_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotent_answers (
    caller        TEXT    NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    token         BLOB    NOT NULL CHECK (length(token) = 32),
    request       BLOB    NOT NULL CHECK (length(request) = 32),
    subject       TEXT    NOT NULL,
    prefix        TEXT    NOT NULL,
    sealed        BLOB    NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (caller, token)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_at_ms);
CREATE INDEX idempotent_answers_by_subject ON idempotent_answers (subject) WHERE sealed <> x'';

CREATE TABLE webhook_cursors (
    name             TEXT    PRIMARY KEY,
    target           TEXT    NOT NULL,
    seq              INTEGER NOT NULL CHECK (0 <= seq),
    attempts         INTEGER NOT NULL CHECK (0 <= attempts),
    next_attempt_ms  INTEGER,
    disabled_at_ms   INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE scope_usage (
    key_id   TEXT    NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    scope    TEXT    NOT NULL,
    last_day INTEGER NOT NULL,
    PRIMARY KEY (key_id, scope)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_addresses (
    key_id           TEXT    NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    address          TEXT    NOT NULL,
    first_used_at_ms INTEGER NOT NULL,
    last_used_at_ms  INTEGER NOT NULL,
    announce_at_ms   INTEGER,
    PRIMARY KEY (key_id, address)
) STRICT, WITHOUT ROWID;

CREATE INDEX key_addresses_to_announce ON key_addresses (announce_at_ms)
    WHERE announce_at_ms IS NOT NULL;

CREATE INDEX events_of_new_address ON events (subject, seq)
    WHERE type = 'api_key.new_address';

CREATE TABLE applied_accounts (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE applied_keys (
    prefix TEXT PRIMARY KEY,
    key_id TEXT NOT NULL UNIQUE REFERENCES api_keys (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE token_status (
    idx        INTEGER PRIMARY KEY CHECK (0 <= idx),
    prefix     TEXT    UNIQUE,
    retired_ms INTEGER,
    CHECK (prefix IS NULL OR retired_ms IS NULL)
) STRICT;

CREATE INDEX token_status_retired ON token_status (retired_ms) WHERE retired_ms IS NOT NULL;
CREATE INDEX token_status_free ON token_status (idx) WHERE prefix IS NULL AND retired_ms IS NULL;
