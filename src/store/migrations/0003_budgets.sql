-- What a write costs no longer grows with the history of its key or its account.

CREATE INDEX events_of_retired_use ON events (subject, seq)
    WHERE type = 'api_key.retired_key_used';

DROP INDEX api_keys_all_by_account;
CREATE INDEX api_keys_by_end ON api_keys (account_id, revoked_at_ms, expires_at_ms);

DROP INDEX api_keys_for_everything;
CREATE INDEX api_keys_for_everything ON api_keys (account_id)
    WHERE revoked_at_ms IS NULL AND instr(' ' || scopes || ' ', ' * ') > 0;

CREATE TABLE key_counts (
    account_id TEXT    PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    stored     INTEGER NOT NULL CHECK (0 <= stored)
) STRICT, WITHOUT ROWID;

INSERT INTO key_counts (account_id, stored)
SELECT account_id, count(*) FROM api_keys GROUP BY account_id;

CREATE TRIGGER api_keys_insert_is_counted AFTER INSERT ON api_keys
BEGIN
    INSERT INTO key_counts (account_id, stored) VALUES (NEW.account_id, 1)
    ON CONFLICT (account_id) DO UPDATE SET stored = stored + 1;
END;

CREATE TRIGGER api_keys_purge_is_counted AFTER DELETE ON api_keys
BEGIN UPDATE key_counts SET stored = stored - 1 WHERE account_id = OLD.account_id; END;

-- One row for all deleted credentials of a key, in place of one for each.
INSERT INTO credential_usage (key_id, prefix, last_used_at_ms)
SELECT key_id, '', max(last_used_at_ms) FROM credential_usage AS u
WHERE NOT EXISTS (SELECT 1 FROM credentials AS c WHERE c.key_id = u.key_id AND c.prefix = u.prefix)
GROUP BY key_id;

DELETE FROM credential_usage
WHERE prefix <> '' AND NOT EXISTS (
    SELECT 1 FROM credentials AS c
    WHERE c.key_id = credential_usage.key_id AND c.prefix = credential_usage.prefix);
