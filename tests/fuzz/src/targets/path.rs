//! The paths of requests: every program must read an accepted path alike.

use keyward::domain::request_path::RequestPath;

pub const TOKENS: &[&str] = &[
    "/", "//", "/.", "/..", "/../", "%2e", "%2E%2E", "%2f", "%2F", "%25", "%252e", "%5c", "\\",
    ";a=b", "%3b", "?", "#", "%00", "%", "%c3%a9", "é", "/orders", "%zz",
];

pub fn run(input: &[u8]) {
    accepts_what_has_one_reading(&String::from_utf8_lossy(input));
    let variant = encoded_variant(input, |_| true);
    let Ok(path) = RequestPath::parse(input) else {
        assert!(RequestPath::parse(&variant).is_err(), "what is refused stays refused");
        return;
    };
    let segments: Vec<_> = path.segments().map(str::to_owned).collect();
    one_reading(input, &segments);
    for segment in &segments {
        assert!(!segment.is_empty() && segment != "." && segment != "..");
        assert!(!segment.contains(['/', '\\', ';']) && !segment.chars().any(char::is_control));
    }
    same(&normal_form(&segments), &segments);
    same(&variant, &segments);
    same(&encoded_variant(input, |at| at % 3 == 0), &segments);
    same(&[input, b"?x=/../y"].concat(), &segments);
    let no_slash = !input.split(|it| *it == b'?').next().is_some_and(|it| it.ends_with(b"/"));
    if no_slash && !input.contains(&b'?') {
        same(&[input, b"/"].concat(), &segments);
    }
}

/// A path of segments that hold nothing ambiguous is accepted, however they are encoded.
fn accepts_what_has_one_reading(text: &str) {
    let ambiguous = |it: &char| it.is_control() || "/\\;%".contains(*it);
    let dots = |it: &str| matches!(it.trim(), "." | "..");
    let segments: Vec<String> = text
        .split('/')
        .map(|it| it.chars().filter(|it| !ambiguous(it)).collect::<String>())
        .filter(|it| !it.is_empty() && !it.split(['?', '#']).next().is_some_and(dots))
        .collect();
    same(&normal_form(&segments), &segments);
}

fn same(target: &[u8], segments: &[String]) {
    let shown = String::from_utf8_lossy(target);
    let path = RequestPath::parse(target).unwrap_or_else(|it| panic!("{shown}: {it}"));
    assert!(path.segments().eq(segments.iter().map(String::as_str)), "{shown}");
}

/// Returns the path with each byte encoded that need not stand as it is.
pub fn normal_form(segments: &[String]) -> Vec<u8> {
    let byte =
        |it: u8| if is_unreserved(it) { vec![it] } else { format!("%{it:02X}").into_bytes() };
    let segment = |it: &String| [b"/".to_vec(), it.bytes().flat_map(byte).collect()].concat();
    let path: Vec<u8> = segments.iter().flat_map(segment).collect();
    if path.is_empty() { b"/".to_vec() } else { path }
}

/// Encodes the unreserved characters that `wanted` selects, which changes no path (RFC 3986, 6.2.2.2).
pub fn encoded_variant(target: &[u8], wanted: impl Fn(usize) -> bool) -> Vec<u8> {
    let end = target.iter().position(|it| *it == b'?').unwrap_or(target.len());
    let mut variant = Vec::new();
    for (at, byte) in target.iter().enumerate() {
        let in_escape = target[at.saturating_sub(2)..at].contains(&b'%');
        if at < end && is_unreserved(*byte) && !in_escape && wanted(at) {
            variant.extend_from_slice(format!("%{byte:02x}").as_bytes());
        } else {
            variant.push(*byte);
        }
    }
    variant
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Reads the path as other programs do: encoded, decoded once and twice; with dots resolved, slashes merged,
/// parameters and fragments cut off.
fn one_reading(target: &[u8], segments: &[String]) {
    let path = target.split(|it| *it == b'?').next().unwrap_or_default();
    let whole = path.split(|it| *it == b'#').next().unwrap_or_default();
    let once = decoded(whole);
    for reading in
        [once.clone(), decoded(&once), once.split(|it| *it == b';').next().unwrap().to_vec()]
    {
        let mut read: Vec<&[u8]> = Vec::new();
        for segment in reading.split(|it| *it == b'/' || *it == b'\\') {
            match segment {
                b"" | b"." => (),
                b".." => drop(read.pop()),
                it => read.push(it),
            }
        }
        assert!(
            read.iter().copied().eq(segments.iter().map(|it| it.as_bytes())),
            "two readings: {segments:?}"
        );
    }
}

fn decoded(path: &[u8]) -> Vec<u8> {
    let (mut bytes, mut at) = (Vec::new(), 0);
    while at < path.len() {
        let escape = path.get(at + 1..at + 3).filter(|it| it.iter().all(u8::is_ascii_hexdigit));
        let value =
            escape.and_then(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 16).ok());
        match value.filter(|_| path[at] == b'%') {
            Some(byte) => {
                bytes.push(byte);
                at += 3;
            }
            None => {
                bytes.push(path[at]);
                at += 1;
            }
        }
    }
    bytes
}
