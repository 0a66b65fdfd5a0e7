//! What keyward takes as JSON: how deeply it nests, and numbers that do not change when they are read into
//! 64 bits.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The greatest depth of nested arrays and objects in a body.
pub const MAX_DEPTH: usize = 32;

/// The detail of the fault about such a number.
pub const INEXACT: &str =
    "holds a number that would not be kept exactly; send it as a string, or with fewer digits";

/// Returns the members of a JSON object that hold such a number.
pub fn inexact_members(text: &str) -> Vec<String> {
    if !is_inexact(text) {
        return Vec::new();
    }
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    let members = members.into_iter().filter(|(_, raw)| is_inexact(raw.get()));
    members.map(|(name, _)| name).collect()
}

/// Returns whether a JSON text holds such a number at any depth.
pub fn is_inexact(text: &str) -> bool {
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        let (_, from) = rest.split_at(start);
        rest = if let Some(string) = from.strip_prefix('"') {
            after_string(string)
        } else {
            let part = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
            let (number, after) = from.split_at(from.find(|c| !part(c)).unwrap_or(from.len()));
            if !is_exact(number) {
                return true;
            }
            after
        };
    }
    false
}

/// Returns the text after the end of the string that `text` starts inside.
fn after_string(text: &str) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return text.get(at + 1..).unwrap_or_default(),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    ""
}

/// Returns whether a number keeps its value in 64 bits: the shortest text of the double that it becomes
/// has the same value.
pub fn is_exact(number: &str) -> bool {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    // Read and printed as metadata is: of two shortest texts, another printer may choose the other.
    let read: f64 = serde_json::from_str(number).unwrap_or(f64::NAN);
    Decimal::of(number) == Decimal::of(&serde_json::Value::from(read).to_string())
}

/// The value of a decimal number: `0.digits` times ten to the power of `exponent`.
#[derive(Debug, Eq, PartialEq)]
struct Decimal {
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(text: &str) -> Option<Self> {
        let text = text.trim_start_matches('-');
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        let digits = all.trim_start_matches('0');
        let leading = i64::try_from(all.len() - digits.len()).ok()?;
        let digits = digits.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { digits, exponent: 0 });
        }
        let point = i64::try_from(whole.len()).ok()?.checked_sub(leading)?;
        Some(Self { digits, exponent: point.checked_add(exponent.parse().ok()?)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_its_value_or_is_found_out() {
        for kept in [
            "0",
            "-0",
            "-0.0",
            "0e5",
            "1e2",
            "1E+2",
            "300.0",
            "0.1",
            "-1.5e-7",
            "1.10",
            "1e300",
            "18446744073709551615",
            "-9223372036854775808",
            "9007199254740993",
            "123456789.125",
            "1.79760e308",
        ] {
            assert!(!is_inexact(kept), "{kept}");
            let read = |it: &str| serde_json::from_str::<serde_json::Value>(it).unwrap();
            assert_eq!(read(&read(kept).to_string()), read(kept), "{kept}");
        }
        for changed in [
            "12345678901234567890123",
            "18446744073709551616",
            "-9223372036854775809",
            "123456789012345678.123",
            "0.1000000000000000000001",
            "1e-400",
            "9007199254740993.0",
            "19007199254740993e-1",
        ] {
            assert!(is_inexact(changed), "{changed}");
            let text = format!(r#"{{"a\"b": 1, "c": ["1e-400", {{"\\": [{changed}]}}], "d": 1}}"#);
            assert_eq!(inexact_members(&text), ["c"], "{changed}");
        }
        assert!(!is_inexact(r#"{"a": "0.1000000000000000000001\"", "b": "\\", "c": 1}"#));
    }

    #[test]
    fn a_number_inside_a_string_is_no_number_in_spite_of_what_is_escaped_before_it() {
        assert!(!is_inexact(r#"["\"1.00000000000000000001"]"#));
        assert!(is_inexact(r#"["\\",1.00000000000000000001]"#));
        assert!(is_inexact(r#"["\n\"",1.00000000000000000001]"#));
    }
}
