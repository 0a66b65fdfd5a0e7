//! The patterns of paths and hosts in a route.

use crate::domain::request_path::lenient_segment;

/// A path with placeholders.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PathPattern {
    pub segments: Vec<Segment>,
    /// Whether it ends in `**`: any segments may follow, or none.
    pub open: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Segment {
    Literal(Box<str>),
    /// `*`: exactly one segment.
    Any,
}

/// One host, or every host below a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Host {
    Name(Box<str>),
    /// The name with the dot before it.
    Below(Box<str>),
}

impl PathPattern {
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix('/').ok_or("must begin with `/`")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (mut segments, mut open) = (Vec::new(), false);
        for word in rest.split('/').filter(|_| !rest.is_empty()) {
            if open {
                return Err("`**` takes all that follows, so it can only be last");
            }
            match word {
                "**" => open = true,
                "*" => segments.push(Segment::Any),
                _ => segments.push(Segment::Literal(literal(word)?.into())),
            }
        }
        Ok(Self { segments, open })
    }

    /// Returns the pattern with its words as a lenient server compares them.
    pub fn lenient(&self) -> Self {
        let segments = self.segments.iter().filter_map(|it| match it {
            Segment::Literal(text) => {
                let text = lenient_segment(text);
                (!text.is_empty()).then(|| Segment::Literal(text.into()))
            }
            Segment::Any => Some(Segment::Any),
        });
        Self { segments: segments.collect(), open: self.open }
    }

    /// Returns whether it names the last segment of a path with this number of segments, which it matches.
    pub fn names_the_end(&self, count: usize) -> bool {
        count == self.segments.len() && matches!(self.segments.last(), Some(Segment::Literal(_)))
    }

    /// Returns whether this pattern matches every path that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        let pairs = self.segments.iter().zip(&other.segments);
        let alike = pairs.into_iter().all(|(ours, its)| *ours == Segment::Any || ours == its);
        let (ours, its) = (self.segments.len(), other.segments.len());
        alike && if self.open { ours <= its } else { ours == its && !other.open }
    }
}

fn literal(word: &str) -> Result<&str, &'static str> {
    if word.is_empty() {
        return Err("holds two slashes in a row; such requests are refused");
    }
    if matches!(word.trim(), "." | "..") {
        return Err("holds a `.` or `..` segment; such requests are refused");
    }
    if word.contains('*') {
        return Err("`*` stands for a whole segment, `**` for all that follow");
    }
    if word.contains(['%', '?', '#', ';', '\\']) || word.contains(char::is_control) {
        return Err("is matched against the decoded path: write it without escapes, query, \
                    `#`, `;` and `\\`");
    }
    Ok(word)
}

impl Host {
    pub fn parse(text: &str) -> Option<Self> {
        if is_v6(text) {
            return Some(Self::Name(text.to_ascii_lowercase().into()));
        }
        let below = text.strip_prefix('*').filter(|it| it.starts_with('.'));
        let name = below.and_then(|it| it.strip_prefix('.')).unwrap_or(text);
        if !is_name(name) {
            return None;
        }
        Some(match below {
            Some(suffix) => Self::Below(suffix.to_ascii_lowercase().into()),
            None => Self::Name(name.to_ascii_lowercase().into()),
        })
    }

    /// Returns whether the pattern matches `name`, which comes from [`host_name`].
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(ours) => name.eq_ignore_ascii_case(ours),
            Self::Below(suffix) => name
                .len()
                .checked_sub(suffix.len())
                .filter(|it| 0 < *it)
                .and_then(|at| name.get(at..))
                .is_some_and(|it| it.eq_ignore_ascii_case(suffix)),
        }
    }

    /// Returns whether this pattern matches every name that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Below(ours), Self::Below(its)) => its.ends_with(&**ours),
            (ours, Self::Name(name)) => ours.matches(name),
            (Self::Name(_), Self::Below(_)) => false,
        }
    }
}

/// Returns the name in a `Host` header (RFC 9110, 7.2), without the port and the dot of the root.
/// Returns `None` if no route could name it: another program could read it as a name.
pub(super) fn host_name(host: &str) -> Option<&str> {
    let (name, port) = match host.rfind([':', ']']) {
        Some(at) if host.get(at..=at) == Some(":") => host.split_at_checked(at)?,
        _ => (host, ""),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    let name = name.strip_suffix('.').unwrap_or(name);
    let readable = port.bytes().all(|it| it.is_ascii_digit()) && (is_name(name) || is_v6(name));
    readable.then_some(name)
}

fn is_name(text: &str) -> bool {
    let label = |it: &str| {
        !it.is_empty() && it.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    text.split('.').all(label)
}

/// Returns whether the text is an IPv6 address in brackets.
fn is_v6(text: &str) -> bool {
    let address = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    address.is_some_and(|it| it.parse::<std::net::Ipv6Addr>().is_ok())
}
