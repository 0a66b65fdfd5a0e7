//! The path of a request, in the one way in which every program must read it.
//!
//! The proxy, keyward and the API behind it may read a path differently: decode it once, twice or
//! not at all, merge slashes, resolve `..`, drop `;parameters`. A path that they could read
//! differently is refused. So the path that was judged is the path that is served.
//!
//! Some differences are harmless in most paths: the case of letters, dots and blanks at the end of a
//! segment, an escaped `?` or `#`, a suffix such as `.json`. Such a path is refused only if the policy
//! decides differently about a [`Reading`] of it.

use std::{borrow::Cow, str};

/// A decoded path with one reading: no segment is `.` or `..`, and only the last may be empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestPath<'a>(Cow<'a, str>);

/// A path as a lenient server could read it.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    path: &'a str,
    /// A set of the ways below.
    ways: u8,
}

/// Without regard to case.
const CASE: u8 = 1;
/// Without blanks around a segment.
const BLANKS: u8 = 2;
/// Without dots at the end of a segment.
const DOTS: u8 = 4;
/// Up to an escaped `?` or `#`.
const CUT: u8 = 8;
/// Without the text from the last dot of the last segment, which some frameworks take for a format.
const SUFFIX: u8 = 16;

/// The reason why a path has more than one reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Ambiguity {
    #[error("the path does not begin with a slash")]
    NotRooted,
    #[error("the path holds a `#`")]
    Fragment,
    #[error("the path holds a percent sign that begins no escape")]
    BrokenEscape,
    #[error("the path is escaped twice")]
    EscapedTwice,
    #[error("the path holds an escaped slash")]
    EscapedSlash,
    #[error("the path holds a backslash")]
    Backslash,
    #[error("the path holds a `;`")]
    Parameters,
    #[error("the path holds a control character")]
    Control,
    #[error("the path is not UTF-8")]
    NotUtf8,
    #[error("the path holds two slashes in a row")]
    EmptySegment,
    #[error("the path holds a `.` or `..` segment")]
    DotSegment,
    #[error("a lenient server could read the path as one of another route")]
    OtherRoute,
    #[error("the method holds a lower-case letter")]
    LowerCaseMethod,
}

impl Ambiguity {
    /// Returns the code of the refusal.
    pub fn code(self) -> &'static str {
        if self == Self::LowerCaseMethod { "ambiguous_method" } else { "ambiguous_path" }
    }
}

/// Refuses a method that some servers read as another one. Methods are case-sensitive (RFC 9110, 9.1),
/// but some servers read `get` as `GET`. No method in use has lower-case letters.
pub fn check_method(method: &str) -> Result<(), Ambiguity> {
    let lower = method.bytes().any(|it| it.is_ascii_lowercase());
    if lower { Err(Ambiguity::LowerCaseMethod) } else { Ok(()) }
}

/// Returns a segment as a lenient server compares it: without regard to case, and without blanks and
/// the dots at its end.
pub(super) fn lenient_segment(segment: &str) -> String {
    folded(trimmed(segment, BLANKS | DOTS)).into_owned()
}

/// Returns a text without regard to case.
fn folded(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() {
        return text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
    }
    let has_capitals = text.bytes().any(|it| it.is_ascii_uppercase());
    if has_capitals { text.to_ascii_lowercase().into() } else { text.into() }
}

fn trimmed(segment: &str, ways: u8) -> &str {
    let (blanks, dots) = (ways & BLANKS != 0, ways & DOTS != 0);
    let start = if blanks { segment.trim_start() } else { segment };
    start.trim_end_matches(|it: char| (dots && it == '.') || (blanks && it.is_whitespace()))
}

fn without_suffix(path: &str) -> &str {
    let path = path.strip_suffix('/').unwrap_or(path);
    match path.rsplit_once('.') {
        Some((before, suffix)) if !suffix.contains('/') && !before.ends_with('/') => before,
        _ => path,
    }
}

impl<'a> Reading<'a> {
    fn new(path: &'a str, ways: u8) -> Self {
        let cut = if ways & CUT == 0 { None } else { path.split(['?', '#']).next() };
        let path = trimmed(cut.unwrap_or(path), ways);
        Self { path: if ways & SUFFIX == 0 { path } else { without_suffix(path) }, ways }
    }

    pub fn ignores_case(self) -> bool {
        self.ways & CASE != 0
    }

    pub fn ignores_suffix(self) -> bool {
        self.ways & SUFFIX != 0
    }

    pub fn segments(self) -> impl Iterator<Item = &'a str> + Clone {
        self.path.split('/').map(move |it| trimmed(it, self.ways)).filter(|it| !it.is_empty())
    }
}

impl<'a> RequestPath<'a> {
    /// Reads the target of a request (RFC 9112, 3.2.1): a path and perhaps a query.
    pub fn parse(target: &'a [u8]) -> Result<Self, Ambiguity> {
        let end = target.iter().position(|it| *it == b'?').unwrap_or(target.len());
        let path = target.get(..end).unwrap_or_default();
        if path.first() != Some(&b'/') {
            return Err(Ambiguity::NotRooted);
        }
        // A fast path: most paths have only letters, digits and single slashes.
        let plain = |it: &u8| it.is_ascii_alphanumeric() || matches!(it, b'/' | b'-' | b'_');
        let doubled = || path.windows(2).any(|it| it == b"//");
        if path.iter().all(plain) && !doubled() {
            return str::from_utf8(path).map(|it| Self(it.into())).map_err(|_| Ambiguity::NotUtf8);
        }
        Self::parse_any(path)
    }

    fn parse_any(path: &'a [u8]) -> Result<Self, Ambiguity> {
        if path.contains(&b'#') {
            return Err(Ambiguity::Fragment);
        }
        let text = decoded(path)?;
        let refused = text.chars().find_map(|it| match it {
            '\\' => Some(Ambiguity::Backslash),
            ';' => Some(Ambiguity::Parameters),
            it if it.is_control() => Some(Ambiguity::Control),
            _ => None,
        });
        if let Some(why) = refused {
            return Err(why);
        }
        let path = Self(text);
        let mut segments = path.0.split('/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            if segment.is_empty() && segments.peek().is_some() {
                return Err(Ambiguity::EmptySegment);
            }
            // Some servers ignore blanks around a segment, or stop at an escaped `?` or `#`.
            let start = segment.split(['?', '#']).next().unwrap_or_default();
            if matches!(start.trim(), "." | "..") {
                return Err(Ambiguity::DotSegment);
            }
        }
        Ok(path)
    }

    /// Returns whether `holds` is true of one of the readings of lenient servers, which may combine
    /// several ways. `ignoring_case` asks for the reading without regard to case even if the path has no
    /// capital letters.
    pub fn any_reading(&self, ignoring_case: bool, holds: impl Fn(Reading<'_>) -> bool) -> bool {
        let ways = self.ways() | if ignoring_case { CASE } else { 0 };
        if ways == 0 {
            return false;
        }
        let folded = folded(&self.0);
        (1..=CASE | BLANKS | DOTS | CUT | SUFFIX).filter(|it| it & !ways == 0).any(|ways| {
            let path = if ways & CASE == 0 { &self.0 } else { &folded };
            holds(Reading::new(path, ways))
        })
    }

    /// Returns the ways of lenient reading that can make a difference.
    fn ways(&self) -> u8 {
        let strict = |it: u8| {
            it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, b'/' | b'-' | b'_')
        };
        if self.0.bytes().all(strict) {
            return 0;
        }
        // In `a.b`, no dot ends anything, but the second part may be a suffix.
        let mut dots = self.0.split('.').skip(1).peekable();
        let suffix = dots.peek().is_some();
        let ending = dots.any(|after| !after.starts_with(|it: char| it.is_ascii_alphanumeric()));
        let case = self.0.bytes().any(|it| it.is_ascii_uppercase() || !it.is_ascii());
        let found = [
            (CASE, case),
            (BLANKS, self.0.contains(char::is_whitespace)),
            (DOTS, ending),
            (CUT, self.0.contains(['?', '#'])),
            (SUFFIX, suffix),
        ];
        found.iter().filter(|(_, found)| *found).fold(0, |ways, (way, _)| ways | way)
    }

    /// Returns the segments. A slash at the end makes no difference, as for most servers.
    pub fn segments(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.split('/').filter(|it| !it.is_empty())
    }
}

/// Decodes percent-encoding (RFC 3986, 2.1) once. Most paths have none.
fn decoded(path: &[u8]) -> Result<Cow<'_, str>, Ambiguity> {
    if !path.contains(&b'%') {
        return str::from_utf8(path).map(Cow::Borrowed).map_err(|_| Ambiguity::NotUtf8);
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (escape, after) = rest.split_at_checked(2).ok_or(Ambiguity::BrokenEscape)?;
        rest = after;
        match hex(escape).ok_or(Ambiguity::BrokenEscape)? {
            b'/' => return Err(Ambiguity::EscapedSlash),
            it => bytes.push(it),
        }
    }
    // The decoded path is searched, because the digits of the inner escape may be escaped, too.
    let twice = |it: &[u8]| it.strip_prefix(b"%").and_then(hex).is_some();
    if bytes.windows(3).any(twice) {
        return Err(Ambiguity::EscapedTwice);
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| Ambiguity::NotUtf8)
}

fn hex(two: &[u8]) -> Option<u8> {
    let digit = |it: &u8| char::from(*it).to_digit(16).and_then(|it| u8::try_from(it).ok());
    match two {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_read_as_other_programs_read_it() {
        for (target, expected) in [
            ("/", vec![]),
            ("/orders", vec!["orders"]),
            ("/orders/", vec!["orders"]),
            ("/orders/7?expand=/../#x", vec!["orders", "7"]),
            ("/%6Frders/caf%C3%A9", vec!["orders", "café"]),
            ("/orders/50%25", vec!["orders", "50%"]),
            ("/orders/a%20b+c", vec!["orders", "a b+c"]),
            ("/orders/.../..a", vec!["orders", "...", "..a"]),
            ("/products/C%23", vec!["products", "C#"]),
            ("/café", vec!["café"]),
        ] {
            let path = RequestPath::parse(target.as_bytes()).unwrap();
            assert_eq!(path.segments().collect::<Vec<_>>(), expected, "{target}");
        }
    }

    #[test]
    fn a_path_that_two_could_read_differently_is_refused() {
        for (target, why) in [
            ("", Ambiguity::NotRooted),
            ("*", Ambiguity::NotRooted),
            ("orders", Ambiguity::NotRooted),
            ("http://api.example.com/orders", Ambiguity::NotRooted),
            ("/orders#/../admin", Ambiguity::Fragment),
            ("/orders/%", Ambiguity::BrokenEscape),
            ("/orders/%4", Ambiguity::BrokenEscape),
            ("/orders/%zz", Ambiguity::BrokenEscape),
            ("/orders/%+4", Ambiguity::BrokenEscape),
            ("/%256Frders", Ambiguity::EscapedTwice),
            ("/orders/%25%32%65%25%32%65/admin", Ambiguity::EscapedTwice),
            ("/orders/%252%65%252%65/admin", Ambiguity::EscapedTwice),
            ("/orders%25%32%66admin", Ambiguity::EscapedTwice),
            ("/orders%2F7", Ambiguity::EscapedSlash),
            ("/orders%2f7", Ambiguity::EscapedSlash),
            ("/orders\\7", Ambiguity::Backslash),
            ("/orders/..%5Cadmin", Ambiguity::Backslash),
            ("/orders;v=1/7", Ambiguity::Parameters),
            ("/orders/..%3B/admin", Ambiguity::Parameters),
            ("/orders/%00", Ambiguity::Control),
            ("/orders/\u{7f}", Ambiguity::Control),
            ("/orders/%C2%85", Ambiguity::Control),
            ("/orders/%FF", Ambiguity::NotUtf8),
            ("//orders", Ambiguity::EmptySegment),
            ("/orders//7", Ambiguity::EmptySegment),
            ("/orders//", Ambiguity::EmptySegment),
            ("/orders/./7", Ambiguity::DotSegment),
            ("/orders/..", Ambiguity::DotSegment),
            ("/orders/%2e%2E/admin", Ambiguity::DotSegment),
            ("/orders/..%20/admin", Ambiguity::DotSegment),
            ("/orders/%20.%C2%A0/admin", Ambiguity::DotSegment),
            ("/orders/..%23x/admin", Ambiguity::DotSegment),
            ("/orders/.%3F", Ambiguity::DotSegment),
        ] {
            assert_eq!(RequestPath::parse(target.as_bytes()), Err(why), "{target}");
        }
        assert_eq!(RequestPath::parse(b"/\xff"), Err(Ambiguity::NotUtf8));
    }

    fn readings(path: &RequestPath<'_>) -> Vec<String> {
        let words = path.segments().collect::<Vec<_>>().join(" ");
        let found = RefCell::new(Vec::new());
        path.any_reading(false, |it| {
            let text = it.segments().collect::<Vec<_>>().join(" ");
            let mut found = found.borrow_mut();
            if text != words && !found.contains(&text) {
                found.push(text);
            }
            false
        });
        found.into_inner()
    }

    #[test]
    fn lenient_servers_ignore_parts_of_a_path_each_in_its_way() {
        for (target, expected) in [
            ("/orders/7", &[][..]),
            ("/orders/caf%C3%A9", &[]),
            ("/Orders/ADMIN", &["orders admin"]),
            ("/orders/%C4%B0%E2%84%AA", &["orders i\u{307}k"]),
            ("/orders/admin.", &["orders admin"]),
            ("/users/ME/a%20", &["users me a ", "users ME a", "users me a"]),
            ("/users/me./a%20", &["users me. a", "users me a ", "users me a"]),
            ("/.../ADMIN", &["... admin", "ADMIN", "admin"]),
            ("/a%3Fx/B", &["a?x b", "a"]),
            ("/7.%23/a", &["7.", "7"]),
            ("/%23/7", &[""]),
            ("/orders/export.json", &["orders export"]),
            ("/orders/export.json/", &["orders export"]),
            ("/orders/export.tar.gz", &["orders export.tar"]),
            ("/export.json%3Fx.y", &["export.json", "export.json?x", "export"]),
            ("/export..json", &["export.", "export"]),
            ("/export.json.", &["export.json", "export"]),
            ("/export.json/%20", &["export.json", "export"]),
            ("/a.b/c", &[]),
            ("/a/.b", &[]),
        ] {
            let Ok(path) = RequestPath::parse(target.as_bytes()) else { panic!("{target}") };
            assert_eq!(readings(&path), expected, "{target}");
        }
    }

    proptest! {
        /// The ways that are left out would change nothing.
        #[test]
        fn no_reading_is_left_out(path in "/[/a-cA.%3F_ éİ-]{0,12}") {
            if let Ok(path) = RequestPath::parse(path.as_bytes()) {
                let found = readings(&path);
                let same: Vec<_> = path.segments().collect();
                for ways in 1..=CASE | BLANKS | DOTS | CUT | SUFFIX {
                    let folded = folded(&path.0);
                    let text = if ways & CASE == 0 { &*path.0 } else { &*folded };
                    let read: Vec<_> = Reading::new(text, ways).segments().collect();
                    prop_assert!(read == same || found.contains(&read.join(" ")), "{read:?}");
                }
            }
        }

        #[test]
        fn the_fast_path_for_plain_paths_gives_the_same(path in "/[/a-c0_.%2F;-]{0,12}") {
            prop_assert_eq!(
                RequestPath::parse(path.as_bytes()),
                RequestPath::parse_any(path.as_bytes())
            );
        }
    }
}
