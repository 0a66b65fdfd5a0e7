//! `keyward scan-patterns`: the patterns of keys, for other secret scanners.

use std::io::{self, Write};

use clap::Args;

use super::Prefixes;
use crate::{
    cli::error::Error,
    domain::plaintext_key::{PlaintextKey, PrefixLabel},
};

#[derive(Args, Debug)]
pub(in crate::cli) struct Patterns {
    #[command(flatten)]
    prefixes: Prefixes,
}

/// The output is a configuration of gitleaks. The rest stands in its comments.
const HEAD: &str = "\
# A configuration of gitleaks (https://github.com/gitleaks/gitleaks): save it as .gitleaks.toml.
#
# A key has 50 characters: its prefix, `_`, and letters and digits. The last 6 are a checksum: the
# CRC-32 (IEEE 802.3) of the 44 characters before them, as a number in base 62 with the digits
# 0-9, A-Z, a-z. No pattern can test it, so a pattern may find a text that is no key.
# `keyward scan` tests it.

[extend]
useDefault = true
";

impl Patterns {
    pub(in crate::cli) fn run(&self) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        write!(out, "{HEAD}")?;
        for label in self.prefixes.labels()? {
            write!(out, "\n{}", rule(label))?;
        }
        Ok(out.flush()?)
    }
}

fn rule(label: PrefixLabel) -> String {
    let label = label.as_str();
    let digits = PlaintextKey::LEN - label.len() - 1;
    let pattern = format!("{label}_[0-9A-Za-z]{{{digits}}}");
    format!(
        "# A custom pattern of GitHub secret scanning:
#   Secret format: {pattern}
#   Before secret: \\A|[^0-9A-Za-z]
#   After secret:  \\z|[^0-9A-Za-z]
[[rules]]
id = \"keyward-{label}\"
description = \"API key of keyward with the prefix {label}\"
regex = '''\\b({pattern})\\b'''
secretGroup = 1
keywords = [\"{label}_\"]
"
    )
}
