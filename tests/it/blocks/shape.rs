//! Compares an answer that a page shows with a real one.

use serde_json::Value;

/// The member that stands for all members that a page leaves out.
const MORE: &str = "…";

/// Reads JSON in which ` …` before the end of an object stands for further members.
pub fn read(text: &str) -> Value {
    let whole = text.replace(", …}", ",\"…\":null}").replace(",…}", ",\"…\":null}");
    serde_json::from_str(&whole).unwrap_or_else(|err| panic!("{err}: {whole}"))
}

/// Returns how a real value differs from the one in a page. Identifiers, keys and times only need the same
/// form. A text that ends with `…` only needs the same beginning.
pub fn differences(path: &str, shown: &Value, real: &Value) -> Vec<String> {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            let names = shown.keys().filter(|it| *it != MORE).collect::<Vec<_>>();
            let is_open = shown.contains_key(MORE);
            let order = real.keys().filter(|it| !is_open || names.contains(it)).collect::<Vec<_>>();
            if names != order {
                return vec![format!("{path}: shown {names:?}, but really {order:?}")];
            }
            let inside =
                names.into_iter().map(|it| (format!("{path}.{it}"), &shown[it], &real[it]));
            inside.flat_map(|(path, shown, real)| differences(&path, shown, real)).collect()
        }
        (Value::Array(shown), Value::Array(real)) if shown.len() == real.len() => {
            let pairs = shown.iter().zip(real).enumerate();
            pairs.flat_map(|(i, (a, b))| differences(&format!("{path}[{i}]"), a, b)).collect()
        }
        (Value::String(shown), Value::String(real)) if is_like(shown, real) => vec![],
        _ if shown == real => vec![],
        _ => vec![format!("{path}: shown {shown}, but really {real}")],
    }
}

fn is_like(shown: &str, real: &str) -> bool {
    match shown.strip_suffix(MORE) {
        Some(beginning) => real.starts_with(beginning),
        None => form(shown) == form(real),
    }
}

/// Replaces what differs from run to run: the letters and digits of an identifier, a key, a signature or a time.
fn form(text: &str) -> String {
    let label = ["key_", "acct_", "evt_", "rg_", "v1,"].into_iter().find(|it| text.starts_with(it));
    let is_time = text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T';
    match label {
        Some(label) => format!("{label}{}", text.len()),
        None if is_time => text.replace(|it: char| it.is_ascii_digit(), "0"),
        None => text.to_owned(),
    }
}

#[test]
fn an_answer_is_compared_with_the_one_that_is_shown() {
    let shown = read(
        r#"{"id":"key_0352QgmMb1RcorJjvBRwJg","at":"2026-01-01T00:00:00.000Z","n":[{"a":1, …}]}"#,
    );
    let real = |id: &str, at: &str, rest: &str| {
        serde_json::from_str(&format!(r#"{{"id":"{id}","at":"{at}",{rest}}}"#)).unwrap()
    };
    let (id, at) = ("key_0352QgjDKYXC68KXK4v9Cv", "2031-12-31T23:59:59.999Z");
    assert!(differences("", &shown, &real(id, at, r#""n":[{"b":2,"a":1}]"#)).is_empty());
    for (id, at, rest) in [
        ("key_short", at, r#""n":[{"a":1}]"#),
        ("acct_352QgjDKYXC68KXK4v9Cv", at, r#""n":[{"a":1}]"#),
        (id, "2031-12-31", r#""n":[{"a":1}]"#),
        (id, at, r#""n":[{"a":2}]"#),
        (id, at, r#""n":[{"b":1}]"#),
        (id, at, r#""n":[]"#),
        (id, at, r#""n":[{"a":1}],"more":1"#),
    ] {
        let real = real(id, at, rest);
        assert_eq!(differences("", &shown, &real).len(), 1, "{real}");
    }
    assert!(is_like("https://a.example/#key=rg_…", "https://a.example/#key=rg_x"));
    assert!(!is_like("https://a.example/#key=rg_…", "https://b.example/#key=rg_x"));
}
