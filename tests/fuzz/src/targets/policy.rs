//! The route policy: `routes.toml`, and below a line `---` requests of the form `METHOD HOST TARGET`.

use std::{collections::BTreeSet, path::Path};

use keyward::{
    config::{ConfigErrors, ConfigFile, RouteSetting, SettingSource},
    domain::{
        policy::{Policy, RouteRule, Undecided},
        request_path::RequestPath,
    },
};

use super::{
    CATALOGUE, KEY, halves,
    path::{encoded_variant, normal_form},
};

pub const TOKENS: &[&str] = &[
    KEY,
    "[[route]]\n",
    "methods = [\"GET\"]\n",
    "methods = [\"*\"]\n",
    "path = \"/orders/*\"\n",
    "path = \"/**\"\n",
    "path = \"/orders/7\"\n",
    "hosts = [\"*.example.com\"]\n",
    "hosts = [\"api.example.com\", \"[::1]\"]\n",
    "scopes = [\"orders:read\"]\n",
    "any_of = [\"orders:read\", \"products:read\"]\n",
    "public = true\n",
    "optional = true\n",
    "\n---\n",
    "GET api.example.com /orders/7\n",
    "POST api.example.com:443 /orders/%37\n",
    "%2e%2e",
];

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (file, requests) = halves(text);
    let routes = RouteSetting::read(ConfigFile { path: Path::new("routes.toml"), text: file });
    let routes = match routes {
        Ok(routes) => routes,
        Err(errors) => return inside(file, &errors),
    };
    let rules: Vec<_> = routes.iter().map(|it| it.rule.clone()).collect();
    match Policy::compile(&rules, &CATALOGUE) {
        Ok(policy) => requests.lines().take(20).for_each(|it| request(&policy, &rules, it)),
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults {
                let line = routes[fault.route].line_of(fault.field);
                assert!((1..=lines(file)).contains(&line));
            }
        }
    }
}

/// Checks that each fault is about a line of the file.
pub fn inside(file: &str, ConfigErrors(faults): &ConfigErrors) {
    assert!(!faults.is_empty());
    let mut last = 0;
    for fault in faults {
        let SettingSource::File { line, .. } = &fault.origin else { panic!("{fault}") };
        assert!((1..=lines(file)).contains(line) && last <= *line, "{fault}");
        assert!(!fault.message.contains('\n'), "{fault}");
        super::keeps_the_secret(&fault.message);
        last = *line;
    }
}

/// Returns the number of lines, with the one after the last line break.
pub fn lines(file: &str) -> usize {
    file.matches('\n').count() + 1
}

fn request(policy: &Policy, rules: &[RouteRule], line: &str) {
    let mut parts = line.splitn(3, ' ');
    let (Some(method), Some(host), Some(target)) = (parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    let host = Some(host).filter(|it| *it != "-");
    let Ok(path) = RequestPath::parse(target.as_bytes()) else { return };
    let decision = |host: Option<&str>, path: &RequestPath<'_>| {
        policy.find(method, host, path).map(|(place, _)| place)
    };
    let found = decision(host, &path);
    let segments: Vec<_> = path.segments().map(str::to_owned).collect();
    if let Some(mut expected) = expected(rules, method, host, &segments) {
        let quiet: Vec<_> = rules.iter().map(without_case).collect();
        for ways in Ways::all() {
            let Ok(place) = expected else { break };
            let read = ways.read(&segments);
            let named = rules[place].path.trim_end_matches("/**").trim_end_matches('/');
            let named = named.split('/').skip(1).collect::<Vec<_>>();
            if ways.suffix && named.len() == segments.len() && named.last() != Some(&"*") {
                continue;
            }
            let rules_read = if ways.case { &quiet } else { rules };
            let differs = match self::expected(rules_read, method, host, &read) {
                Some(Ok(it)) => access(&rules[it]) != access(&rules[place]),
                Some(Err(_)) => read.len() < segments.len(),
                None => false,
            };
            if differs {
                expected = Err(Undecided::OtherRoute);
            }
        }
        assert_eq!(found, expected, "{line}: the first route that matches decides");
    }
    for variant in [normal_form(&segments), encoded_variant(target.as_bytes(), |_| true)] {
        let variant = RequestPath::parse(&variant).expect("a variant of a good path is good");
        assert_eq!(decision(host, &variant), found, "{line}: one path, one decision");
    }
    if let Some(host) = host {
        let loud = host.to_ascii_uppercase();
        assert_eq!(decision(Some(&loud), &path), found, "{line}: the case of a host says nothing");
        if is_name(host) {
            for same in [format!("{host}:443"), format!("{host}."), format!("{host}.:8080")] {
                assert_eq!(decision(Some(&same), &path), found, "{line}: {same}");
            }
        }
    }
}

/// What a lenient server ignores.
#[derive(Clone, Copy)]
struct Ways {
    case: bool,
    blanks: bool,
    dots: bool,
    cut: bool,
    suffix: bool,
}

impl Ways {
    fn all() -> impl Iterator<Item = Self> {
        (0..32).map(|set| {
            let has = |bit: u8| set & (1 << bit) != 0;
            Self { case: has(0), blanks: has(1), dots: has(2), cut: has(3), suffix: has(4) }
        })
    }

    fn read(self, segments: &[String]) -> Vec<String> {
        let mut read = Vec::new();
        for (at, segment) in segments.iter().enumerate() {
            let cut = segment.find(['?', '#']).filter(|_| self.cut);
            let text = &segment[..cut.unwrap_or(segment.len())];
            let last = cut.is_some() || at + 1 == segments.len();
            read.push(text.to_owned());
            if last {
                break;
            }
        }
        let words = |read: &[String]| -> Vec<_> {
            read.iter().map(|it| self.word(it)).filter(|it| !it.is_empty()).collect()
        };
        // A blank or a dot after the suffix is ignored first.
        read = words(&read);
        if let Some(last) = read.last_mut().filter(|_| self.suffix) {
            let dot = last.rfind('.').filter(|at| 0 < *at);
            last.truncate(dot.unwrap_or(last.len()));
        }
        words(&read)
    }

    fn word(self, text: &str) -> String {
        let mut text = text;
        loop {
            let before = text;
            if self.blanks {
                text = text.trim();
            }
            if self.dots {
                text = text.strip_suffix('.').unwrap_or(text);
            }
            if text == before {
                break;
            }
        }
        if self.case {
            return text
                .chars()
                .flat_map(char::to_uppercase)
                .flat_map(char::to_lowercase)
                .collect();
        }
        text.to_owned()
    }
}

/// Returns the route with the words of its path as a server compares them that ignores case, blanks and dots.
fn without_case(rule: &RouteRule) -> RouteRule {
    let ways = Ways { case: true, blanks: true, dots: true, cut: false, suffix: false };
    let words = rule.path.split('/').filter(|it| !it.is_empty());
    let words = words.map(|it| if it.contains('*') { it.to_owned() } else { ways.word(it) });
    let path = words.filter(|it| !it.is_empty()).fold(String::new(), |path, it| path + "/" + &it);
    RouteRule { path, ..rule.clone() }
}

/// Returns what a route asks for.
fn access(rule: &RouteRule) -> (BTreeSet<&String>, BTreeSet<&String>, bool, bool) {
    fn set(names: &Option<Vec<String>>) -> BTreeSet<&String> {
        names.iter().flatten().collect()
    }
    (set(&rule.scopes), set(&rule.any_of), rule.public, rule.optional)
}

fn is_name(host: &str) -> bool {
    let label =
        |it: &str| !it.is_empty() && it.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    host.split('.').all(label)
}

/// Returns the decision by a search from the first route to the last; `None` for a host with another form.
fn expected(
    rules: &[RouteRule],
    method: &str,
    host: Option<&str>,
    segments: &[String],
) -> Option<Result<usize, Undecided>> {
    let by_host = rules.iter().any(|it| !it.hosts.is_empty());
    let host = match host {
        None if by_host => return Some(Err(Undecided::NoHost)),
        None => String::new(),
        Some(host) if is_name(host) => host.to_ascii_lowercase(),
        Some(_) => return None,
    };
    let matches = |rule: &RouteRule| {
        let methods = rule.methods.iter().any(|it| it == "*" || it == method);
        let hosts = rule.hosts.is_empty()
            || rule.hosts.iter().map(|it| it.to_ascii_lowercase()).any(|it| {
                match it.strip_prefix('*') {
                    Some(suffix) => suffix.len() < host.len() && host.ends_with(suffix),
                    None => it == host,
                }
            });
        let mut pattern: Vec<_> = rule.path.split('/').filter(|it| !it.is_empty()).collect();
        let open = pattern.last() == Some(&"**");
        if open {
            pattern.pop();
        }
        let enough =
            if open { pattern.len() <= segments.len() } else { pattern.len() == segments.len() };
        methods
            && hosts
            && enough
            && pattern.iter().zip(segments).all(|(it, segment)| *it == "*" || it == segment)
    };
    Some(rules.iter().position(matches).ok_or(Undecided::NoRoute))
}
