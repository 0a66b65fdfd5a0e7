//! Which configurations are accepted, and the faults of the others.

use super::*;

fn assemble(flags: &Flags, text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let variables: Vec<(String, String)> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let file = ConfigFile { path: Path::new("k.toml"), text };
    Config::assemble(flags, Some(file), &variables)
}

fn from_file(text: &str) -> Result<Config, ConfigErrors> {
    assemble(&Flags::default(), text, &[])
}

fn tcp(address: &str) -> ListenAddress {
    ListenAddress::Tcp(address.parse().unwrap())
}

/// The faults of `text`, one line each.
fn faults(text: &str) -> Vec<String> {
    let errors = from_file(text).expect_err("the file has faults");
    errors.0.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_fault(text: &str, expected: &str) {
    let faults = faults(text);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].contains(expected), "{faults:#?}");
}

#[test]
fn nothing_set_is_the_default() {
    assert_eq!(Config::assemble(&Flags::default(), None, &[]).unwrap(), Config::default());
    assert_eq!(from_file("").unwrap(), Config::default());
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let file = "listen = \"10.0.0.1:1\"\nworkers = 2\n[log]\nlevel = \"warn\"\n";
    let variables = [("KEYWARD_LISTEN", "10.0.0.2:2"), ("KEYWARD_LOG_LEVEL", "debug")];
    let flags = Flags { listen: Some("10.0.0.3:3".to_owned()), ..Flags::default() };

    let config = assemble(&flags, file, &variables).unwrap();

    assert_eq!(config.listen, [tcp("10.0.0.3:3")]);
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.workers, 2);
    assert_eq!(config.log.format, LogFormat::Auto);
}

#[test]
fn every_flag_sets_what_it_names() {
    let given = |it: &str| Some(it.to_owned());
    let flags = Flags {
        listen: given("[::1]:0"),
        data_dir: given("/var/lib/keyward"),
        log_level: given("trace"),
        log_format: given("json"),
        public_url: given("https://keys.example.com"),
    };
    let config = Config::assemble(&flags, None, &[]).unwrap();
    assert_eq!(config.listen, [tcp("[::1]:0")]);
    assert_eq!(config.data_dir, Path::new("/var/lib/keyward"));
    assert_eq!(config.public_url.as_deref(), Some("https://keys.example.com"));
    assert_eq!(config.log, LogConfig { level: LogLevel::Trace, format: LogFormat::Json });
}

#[test]
fn every_setting_can_be_set_by_its_variable() {
    let values = [
        ("KEYWARD_LISTEN", "0.0.0.0:0"),
        ("KEYWARD_DATA_DIR", "/d"),
        ("KEYWARD_ROOT_KEY_FILE", "/run/secrets/root-key"),
        ("KEYWARD_WORKERS", "256"),
        ("KEYWARD_MAX_CONNECTIONS", "500"),
        ("KEYWARD_PUBLIC_URL", "https://keys.example.com"),
        ("KEYWARD_CONSOLE", "false"),
        ("KEYWARD_DOCS", "false"),
        ("KEYWARD_TRUSTED_PROXIES", "10.0.0.0/8, fd00::1"),
        ("KEYWARD_TLS_CERTIFICATE", "/c.pem"),
        ("KEYWARD_TLS_KEY", "/k.pem"),
        ("KEYWARD_LOG_LEVEL", "error"),
        ("KEYWARD_LOG_FORMAT", "text"),
        ("KEYWARD_KEYS_PREFIX", "a1b2"),
        ("KEYWARD_KEYS_ROTATION_GRACE", "1h 30m"),
        ("KEYWARD_KEYS_HASH_ITERATIONS", "2000000"),
        ("KEYWARD_KEYS_MAX_KEYS_PER_ACCOUNT", "1"),
        ("KEYWARD_KEYS_MAX_LIFETIME", "90d"),
        ("KEYWARD_KEYS_DEFAULT_LIFETIME", "30d"),
        ("KEYWARD_KEYS_CONSOLE_LINK_LIFETIME", "1h"),
        ("KEYWARD_KEYS_MAX_CHANGES_AT_ONCE", "10"),
        ("KEYWARD_KEYS_MAX_CHANGES_PER_SECOND", "2"),
        ("KEYWARD_KEYS_RETENTION", "1d"),
        ("KEYWARD_KEYS_CLIENT_ADDRESSES", "store"),
        ("KEYWARD_TOKENS_LIFETIME", "1m"),
        ("KEYWARD_TOKENS_ALGORITHM", "ES256"),
        ("KEYWARD_TOKENS_AUDIENCES", "https://api.example.com, orders"),
        ("KEYWARD_TOKENS_STATUS_TTL", "10s"),
        ("KEYWARD_AUDIT_CHECKPOINT_KEY", "/run/credentials/checkpoint.key"),
        ("KEYWARD_AUTHZ_POLICY_FILE", "/etc/keyward/routes.toml"),
        ("KEYWARD_AUTHZ_ALLOW_PREFLIGHT", "true"),
        ("KEYWARD_BACKUP_DIR", "/b"),
        ("KEYWARD_BACKUP_KEEP", "0"),
    ];
    let schedule =
        |it: Job| (format!("KEYWARD_JOBS_{}", it.as_str().to_uppercase()), "0 0 0 29 2 MON");
    let schedules = Job::ALL.map(schedule);
    let schedules = schedules.iter().map(|(name, line)| (name.as_str(), *line));
    let values: Vec<_> = values.into_iter().chain(schedules).collect();
    let names: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    assert_eq!(names, values.iter().map(|(name, _)| *name).collect::<Vec<_>>());

    let config = assemble(&Flags::default(), "", &values).unwrap();
    let default = Config::default();
    for setting in SETTINGS.iter() {
        assert_ne!((setting.show)(&config), (setting.show)(&default), "{}", setting.path());
    }
    assert_eq!(config.keys.rotation_grace, Duration::from_mins(90));
    assert_eq!(from_file(&config.to_toml()).unwrap(), config);
}

#[test]
fn all_faults_are_told_together_each_with_its_place() {
    let file =
        "listne = \"127.0.0.1:1\"\nworkers = 300\n\n[keys]\nprefix = 7\nrotation_grace = \"8d\"\n";
    let variables = [
        ("KEYWARD_LISTNE", "x"),
        ("KEYWARD_DOCS", "yes"),
        ("KEYWARD_CONFIG", "c"),
        ("KEYWARD_URL", "u"),
        ("KEYWARD_KEY_FILE", "f"),
        ("PATH", "/bin"),
    ];
    let flags = Flags { log_level: Some("inof".to_owned()), ..Flags::default() };

    let errors = assemble(&flags, file, &variables).unwrap_err();

    let expected = "\
k.toml:1: unknown setting `listne`; did you mean `listen`?
k.toml:2: `workers` must be a whole number from 0 to 256, not `300`
k.toml:5: `keys.prefix` must be 1 to 4 lower-case letters or digits, a letter first, not `7`
k.toml:6: `keys.rotation_grace` must be from 0s to 7d, not `8d`
KEYWARD_LISTNE: unknown variable; did you mean `KEYWARD_LISTEN`?
KEYWARD_DOCS: must be `true` or `false`, not `yes`
--log-level: must be one of `error`, `warn`, `info`, `debug`, `trace`, not `inof`; did you mean `info`?";
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn a_value_that_is_overridden_must_be_sound_all_the_same() {
    let errors =
        assemble(&Flags::default(), "workers = -1", &[("KEYWARD_WORKERS", "1")]).unwrap_err();
    assert_eq!(errors.0.len(), 1);
}

#[test]
fn broken_toml_is_one_fault_with_its_line_and_without_its_text() {
    let faults = faults("workers = 1\n\nlisten = rg_abcdefghij\ndocs = ");
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].starts_with("k.toml:3: not TOML: "), "{faults:#?}");
    assert!(!faults[0].contains("rg_abc"), "{faults:#?}");
    assert_fault("docs = true\r\n\r\ndocs = false\r\n", "k.toml:3: not TOML: duplicate key");
    assert_fault("[log", "k.toml:1: not TOML: ");
}

#[test]
fn an_unknown_name_comes_with_what_was_probably_meant() {
    assert_fault("\n[lgo]\nlevel = 1", "k.toml:2: unknown table `lgo`; did you mean `log`?");
    assert_fault(
        "[log]\nlevle = \"info\"",
        "2: unknown setting `levle` in `[log]`; did you mean `level`?",
    );
    assert_fault("rotation_grace = \"5m\"", "did you mean `keys.rotation_grace`?");
    assert_fault("[[scope]]", "unknown setting `scope`; did you mean `scopes`?");
    assert_fault("log.x = 1", "1: unknown setting `x` in `[log]`; known here: level, format");
    assert_fault(
        "zzzzzzz = 1",
        "known here: listen, data_dir, root_key_file, workers, max_connections, public_url, console, docs, trusted_proxies, tls, log, keys, tokens, audit, authz, backup, jobs, scopes, extra_scopes",
    );
}

#[test]
fn networks_are_read_as_address_lists_are() {
    let config = from_file(
        "trusted_proxies = [\"::ffff:10.0.0.0/104\", \"::ffff:192.0.2.1\", \"2001:DB8::/32\"]",
    )
    .unwrap();
    let read: Vec<_> = config.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(read, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]);
    assert_fault(
        "trusted_proxies = [\"10.0.0.1/8\"]",
        "`trusted_proxies` must be networks, such as \"10.0.0.0/8\" or \"::1\", and `10.0.0.1/8` has bits \
         set after its prefix length; write 10.0.0.0/8",
    );
    assert_fault("trusted_proxies = [\"10.0.0\"]", "not `10.0.0`");
}

#[test]
fn a_value_of_the_wrong_type_is_refused() {
    assert_fault("listen = 8080", "`listen` must be an IP address and a port");
    assert_fault("[listen]", "not a table");
    assert_fault("data_dir = true", "not `true`");
    assert_fault("workers = \"4\"", "not the string `4`");
    assert_fault("workers = 1.5", "not `1.5`");
    assert_fault("docs = \"true\"", "not the string `true`");
    for url in
        ["keys.example.com", "ftp://x", "https://", "https://x/y", "https://u@x", "https://x?y"]
    {
        assert_fault(&format!("public_url = \"{url}\""), "must be a URL without a path");
    }
    let config = from_file("public_url = \"https://keys.example.com:8443/\"").unwrap();
    assert_eq!(config.public_url.as_deref(), Some("https://keys.example.com:8443"));
    assert_fault("log = \"info\"", "`log` must be a table: write `[log]`");
    assert_fault("[log]\nlevel = []", "2: `log.level` must be one of");
    assert_fault("keys.retention = 30", "must be a duration with its unit");
    assert_fault("jobs.purge = 1979-05-27", "not a date");
}

#[test]
fn an_address_that_is_none_is_answered_with_one() {
    assert_fault("listen = \"localhost:8080\"", "; write `127.0.0.1:8080` or `[::1]:8080`");
    assert_fault("listen = \":9000\"", "; write `127.0.0.1:9000` for this machine only");
    assert_fault("listen = \"9000\"", "`0.0.0.0:9000` or `[::]:9000` for all");
    assert_fault("listen = \"*:9000\"", "`0.0.0.0:9000`");
    assert_fault("listen = \"::1\"", "with a port it is `[::1]:8080`");
    assert_fault("listen = \"api.example.com:80\"", "host names are not looked up");
    assert_fault("listen = \"127.0.0.1:65536\"", "not `127.0.0.1:65536`");
}

#[test]
fn bounds_are_inclusive_and_hold() {
    for sound in [
        "workers = 0",
        "workers = 0x10",
        "keys.prefix = \"a\"",
        "keys.rotation_grace = \"0s\"",
        "keys.rotation_grace = \"7d\"",
        "keys.hash_iterations = 1_000",
        "keys.max_keys_per_account = 1_000_000",
        "keys.max_lifetime = \"\"",
        "keys.max_lifetime = \"1s\"",
        "keys.default_lifetime = \"36500d\"",
        "keys.retention = \"3650d\"",
        "keys.client_addresses = \"off\"",
        "keys.client_addresses = \"announce\"",
    ] {
        from_file(sound).unwrap();
    }
    for unsound in [
        "workers = 257",
        "data_dir = \"\"",
        "data_dir = \"~/keyward\"",
        "data_dir = \"a\\u0000b\"",
        "keys.prefix = \"\"",
        "keys.prefix = \"abcde\"",
        "keys.prefix = \"1a\"",
        "keys.prefix = \"Rg\"",
        "keys.rotation_grace = \"604801s\"",
        "keys.rotation_grace = \"1500ms\"",
        "keys.rotation_grace = \"300\"",
        "keys.hash_iterations = 999",
        "keys.hash_iterations = 2_000_001",
        "keys.hash_iterations = 99999999999999999999",
        "keys.max_keys_per_account = 0",
        "keys.max_lifetime = \"0s\"",
        "keys.max_lifetime = 90",
        "keys.default_lifetime = \"36501d\"",
        "keys.default_lifetime = \"never\"",
        "keys.retention = \"23h\"",
        "keys.retention = \"3651d\"",
        "keys.client_addresses = \"\"",
        "keys.client_addresses = \"Off\"",
        "keys.client_addresses = false",
    ] {
        assert_fault(unsound, "k.toml:1: `");
    }
}

#[test]
fn a_long_value_is_not_repeated_whole() {
    let pasted = format!("rg_{}", "x".repeat(47));
    let faults = faults(&format!("{pasted} = 1\nkeys.prefix = \"{pasted}\""));
    assert_eq!(faults.len(), 2);
    for fault in faults {
        assert!(fault.contains("`rg_xxxxxxxxx…`"), "{fault}");
        assert!(!fault.contains(&pasted), "{fault}");
    }
}

#[test]
fn a_cron_line_has_six_fields_and_comes_due() {
    assert_fault("jobs.purge = \"*/10 * * * *\"", "`jobs.purge` must be a cron line of six fields");
    assert_fault("jobs.purge = \"0 0 0 1 1 * 2030\"", "six fields");
    assert_fault("jobs.purge = \"@daily\"", "six fields");
    assert_fault("jobs.purge = \"61 * * * * *\"", "six fields");
    assert_fault("jobs.purge = \"0 0 0 30 2 *\"", "`0 0 0 30 2 *` never does");
    // To the scheduler both days must match, so this is no Monday in February.
    assert_fault("jobs.purge = \"0 0 0 30 2 MON\"", "never does");
    assert_eq!(
        from_file("jobs.purge = \"0 0 0 29 2 *\"").unwrap().jobs[&Job::Purge],
        "0 0 0 29 2 *"
    );
}

fn scope(list: &str, name: &str) -> String {
    format!("[[{list}]]\nname = \"{name}\"\ndescription = \"d\"\n")
}

fn names(config: &Config) -> Vec<&str> {
    config.scopes.iter().map(|it| it.name.as_str()).collect()
}

#[test]
fn scopes_replace_the_catalogue_and_extra_scopes_extend_it() {
    let extra = scope("extra_scopes", "c:d");
    let config = from_file(&extra).unwrap();
    assert_eq!(config.scopes.len(), 10);
    assert_eq!(names(&config)[0], "orders:read");
    assert_eq!(names(&config)[9], "c:d");

    let config = from_file(&(extra + &scope("scopes", "z:1") + &scope("scopes", "a-b:2"))).unwrap();
    assert_eq!(names(&config), ["z:1", "a-b:2", "c:d"]);
    assert_eq!(from_file(&config.to_toml()).unwrap(), config);

    let config = from_file("scopes = []").unwrap();
    assert!(config.scopes.is_empty());
    assert_eq!(from_file(&config.to_toml()).unwrap(), config);
}

#[test]
fn a_scope_stands_once_in_the_catalogue() {
    let twice = scope("scopes", "a:b") + &scope("scopes", "c:d") + &scope("extra_scopes", "a:b");
    assert_fault(&twice, "k.toml:8: there is already a scope `a:b`: it stands on line 2");
    assert_fault(
        &scope("extra_scopes", "orders:read"),
        "2: there is already a scope `orders:read`",
    );
}

#[test]
fn keywards_own_scopes_are_refused() {
    for name in ["api-keys:read", "accounts:write", "metrics:read", "*"] {
        assert_fault(&scope("scopes", name), "2: `scopes.name` must not be");
    }
}

#[test]
fn the_faults_of_a_scope_are_told_with_their_lines() {
    let text = "[[scopes]]\nname = \"Orders:read\"\ndescription = \"\"\n\n[[scopes]]\n\
                nmae = \"a:b\"\ndescription = 3\n[[scopes]]\nname = \"c:d\"\ndescription = \"a\\nb\"\n";
    let expected = [
        "k.toml:2: `scopes.name` must look like `orders:read`",
        "k.toml:3: `scopes.description` must be 1 to 200 characters, not 0",
        "k.toml:5: `scopes` needs a `name`",
        "k.toml:6: unknown `nmae` in `scopes`; did you mean `name`?",
        "k.toml:7: `scopes.description` must be a string, not `3`",
        "k.toml:10: `scopes.description` must be one line without control or invisible characters",
    ];
    let faults = faults(text);
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{faults:#?}");
    }
    assert_fault("[scopes]\nname = \"a:b\"", "must be `[[scopes]]` sections");
    assert_fault("scopes = [\n1\n]", "k.toml:2: `scopes` must be `[[scopes]]` sections");
    let too_many: String = (0..=200).map(|it| scope("scopes", &format!("a:{it}"))).collect();
    assert_fault(&too_many, "k.toml:602: there may be at most 200 scopes");
    assert_fault(&scope("scopes", &format!("a:{}", "b".repeat(63))), "at most 64 bytes");
    for name in ["a", "a:", ":b", "a:b:c", "a:*", "a_b:c", "é:b"] {
        assert_fault(&scope("scopes", name), "must look like");
    }
}

/// The default file with its settings live: a hash without a space behind it is taken away.
fn uncommented() -> String {
    let live = |line: &'static str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest,
        _ => line,
    };
    DEFAULT_FILE.lines().map(live).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_default_file_holds_every_setting_at_its_default() {
    assert_eq!(from_file(DEFAULT_FILE).unwrap(), Config::default());
    assert_eq!(from_file(&uncommented()).unwrap(), Config::default());

    let root: toml::Table = uncommented().parse().unwrap();
    for setting in SETTINGS.iter() {
        let value = match setting.table {
            "" => root.get(setting.name),
            table => root[table].get(setting.name),
        };
        assert_eq!(value.unwrap().to_string(), (setting.show)(&Config::default()));
    }
    assert_eq!(root["scopes"].as_array().unwrap().len(), 9);
    assert!(DEFAULT_FILE.contains("[[extra_scopes]]"));
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    assert_eq!(from_file(&Config::default().to_toml()).unwrap(), Config::default());

    let odd = "data_dir = \"a \\\"b\\\" \\\\ 'c' \\t é\"\nkeys.retention = \"86401s\"\n\
               [[scopes]]\nname = \"a:b\"\ndescription = \"it's \\\"odd\\\"\"\n";
    let config = from_file(odd).unwrap();
    assert_eq!(from_file(&config.to_toml()).unwrap(), config);
}

/// A webhook with these lines in addition.
fn webhook(lines: &str) -> String {
    format!("[[webhooks]]\nname = \"siem\"\nevents = [\"api_key.*\"]\n{lines}\n")
}

const PUBLIC: &str = "url = \"https://siem.example.com/a?b=c\"";

#[test]
fn a_webhook_is_read_and_printed() {
    let more = "secret_file = \"/s\"\nallow_private = true\ntimeout = \"5s\"";
    let text =
        webhook(PUBLIC) + &webhook(&format!("{PUBLIC}\n{more}")).replace("siem\"\ne", "b\"\ne");
    let config = from_file(&text).unwrap();
    let [first, second] = &*config.webhooks else { panic!("{config:?}") };
    assert_eq!((&*first.name, &*first.url), ("siem", "https://siem.example.com/a?b=c"));
    assert_eq!((&first.secret_file, first.allow_private), (&None, false));
    assert_eq!(first.timeout, Duration::from_secs(20));
    assert!(first.events[0].matches("api_key.revoked"));
    assert_eq!(second.secret_file.as_deref(), Some(Path::new("/s")));
    assert_eq!((second.allow_private, second.timeout), (true, Duration::from_secs(5)));
    assert_eq!(from_file(&config.to_toml()).unwrap(), config);
    assert_eq!(config.differences(&Config::default()), ["webhooks"]);
}

#[test]
fn the_faults_of_webhooks_are_told_with_their_lines() {
    let text = "[[webhooks]]\nname = \"Siem\"\nevents = [\"api_key.create\"]\nurl = \"ftp://x\"\n\
                timeout = \"61s\"\nsecret_fil = \"x\"\n[[webhooks]]\n";
    let expected = [
        "k.toml:2: `webhooks.name` must be 1 to 40 lower-case letters, digits and hyphens, not `Siem`",
        "k.toml:3: `webhooks.events` must be types of events, such as `account.created`, `api_key.*` \
         or `*`, not `api_key.create`; did you mean `api_key.created`?",
        "k.toml:4: `webhooks.url` must be a URL such as",
        "k.toml:5: `webhooks.timeout` must be from 1s to 1m",
        "k.toml:6: unknown `secret_fil` in `webhooks`; did you mean `secret_file`?",
        "k.toml:7: `webhooks` needs `name`",
        "k.toml:7: `webhooks` needs `url`",
        "k.toml:7: `webhooks` needs `events`",
    ];
    let faults = faults(text);
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{fault}\n{expected}");
    }
    assert_fault("[webhooks]\nname = \"a\"", "must be `[[webhooks]]` sections");
    assert_fault("[[webhook]]", "did you mean `webhooks`?");
    let twice = webhook(PUBLIC) + &webhook(PUBLIC);
    assert_fault(&twice, "k.toml:5: there is already a webhook `siem`");
    let none = webhook(PUBLIC).replace("\"api_key.*\"", "");
    assert_fault(&none, "must name at least one type of event");
    let many = |count: usize| -> String {
        (0..count).map(|n| webhook(PUBLIC).replace("siem\"\n", &format!("s{n}\"\n"))).collect()
    };
    assert_eq!(from_file(&many(32)).unwrap().webhooks.len(), 32);
    assert_fault(&many(33), "there may be at most 32 webhooks");
}

#[test]
fn a_webhook_knows_whether_its_receiver_is_on_this_machine() {
    for (url, expected) in [
        ("http://127.0.0.1:9000/x", true),
        ("http://[::1]:9000/", true),
        ("https://localhost/", true),
        ("http://10.1.2.3/", false),
        ("https://localhost.example.com/", false),
        ("https://siem.example.com/", false),
    ] {
        let text = webhook(&format!("url = \"{url}\"\nallow_private = true"));
        assert_eq!(from_file(&text).unwrap().webhooks[0].is_local(), expected, "{url}");
    }
}

#[test]
fn a_webhook_goes_to_a_public_place_by_tls_unless_it_may_be_private() {
    for url in ["http://siem.example.com/", "https://10.1.2.3/", "https://[::1]:8443/x"] {
        let text = webhook(&format!("url = \"{url}\""));
        assert_fault(&text, "needs `allow_private = true`");
        from_file(&(text + "allow_private = true")).unwrap();
    }
    for url in
        ["", "siem.example.com", "https://", "https://user:word@x/", "https://x/#y", "https://a b/"]
    {
        let faults = faults(&webhook(&format!("url = \"{url}\"")));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("must be a URL such as"), "{faults:?}");
        assert!(!faults[0].contains("word"), "a URL may hold a secret");
    }
}
