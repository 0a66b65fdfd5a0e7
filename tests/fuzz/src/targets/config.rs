//! `keyward.toml`, and below a line `---` variables of the form `NAME=VALUE`.

use std::path::Path;

use keyward::config::{Config, ConfigErrors, ConfigFile, Flags, SettingSource};

use super::{KEY, halves, keeps_the_secret, policy::inside};

pub const TOKENS: &[&str] = &[
    KEY,
    "[keys]\n",
    "[log]\n",
    "[jobs]\n",
    "[tokens]\n",
    "[[scopes]]\nname = \"a:b\"\ndescription = \"c\"\n",
    "[[extra_scopes]]\n",
    "[[webhooks]]\nname = \"a\"\nurl = \"https://example.com/\"\nevents = [\"*\"]\n",
    "listen = \"127.0.0.1:8080\"\n",
    "listen = [\"unix:/run/k.sock\", \"[::]:0\"]\n",
    "data_dir = \"/tmp/k\"\n",
    "trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n",
    "public_url = \"https://keys.example.com/\"\n",
    "max_lifetime = \"90d\"\n",
    "purge = \"0 30 3 * * *\"\n",
    "\"\"\"",
    "'''",
    "\\u0001",
    "\n---\n",
    "KEYWARD_LOG_LEVEL=debug\n",
];

fn assemble(file: &str, variables: &[(String, String)]) -> Result<Config, ConfigErrors> {
    let file = ConfigFile { path: Path::new("keyward.toml"), text: file };
    Config::assemble(&Flags::default(), Some(file), variables)
}

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (file, variables) = halves(text);
    if let Err(errors) = assemble(file, &[]) {
        inside(file, &errors);
    }
    let variables = variables.lines().filter_map(|it| it.split_once('='));
    let variables: Vec<_> =
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    match assemble(file, &variables) {
        Ok(config) => {
            let printed = config.to_toml();
            let again = assemble(&printed, &[]).unwrap_or_else(|it| panic!("{it}\n{printed}"));
            assert_eq!(again, config, "what is printed is read");
            assert_eq!(again.to_toml(), printed);
            assert!(config.differences(&again).is_empty());
        }
        Err(ConfigErrors(faults)) => {
            for fault in faults {
                assert!(!fault.message.contains('\n'), "{fault}");
                if let SettingSource::Variable(name) = &fault.origin {
                    assert!(variables.iter().any(|(it, _)| it == name));
                }
                keeps_the_secret(&fault.message);
            }
        }
    }
}
