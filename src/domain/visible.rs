//! Visible characters: people decide by the names that they see.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Returns whether the text has an invisible character, or one that changes the direction of
/// others. Joiners and variation selectors may stand in a word or an emoji.
pub fn hides_something(text: &str) -> bool {
    let mut before: Option<char> = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let hidden = if is_joiner(c) {
            let behind = before.is_some_and(|it| shows(it) || is_selector(it));
            !(behind && rest.peek().is_some_and(|it| is_visible(*it)))
        } else if is_selector(c) {
            !before.is_some_and(shows)
        } else {
            is_hidden(c)
        };
        if hidden {
            return true;
        }
        before = Some(c);
    }
    false
}

/// Returns whether the character is visible by itself.
pub fn is_visible(c: char) -> bool {
    shows(c) && !is_combining_mark(c)
}

/// Returns the text for a terminal. Each character that is invisible, changes the direction of
/// others or controls the terminal is written as its escape (`\u{9b}`). So one line of text stays
/// one line.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => shown.extend(c.escape_default()),
            c if is_hidden(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Returns the text for a comparison that ignores case and the encoding of accents. It changes case
/// down, up and down again, character by character, so that all forms of a letter meet.
pub fn folded(text: &str) -> String {
    let upper = text.nfd().flat_map(char::to_lowercase).flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).nfc().collect()
}

/// Returns whether the character is visible by itself, or as a mark on the one before it.
fn shows(c: char) -> bool {
    const BLANK_BRAILLE: char = '\u{2800}';
    !(c.is_whitespace() || is_hidden(c) || is_joiner(c) || is_selector(c) || c == BLANK_BRAILLE)
}

/// Returns whether the character is ZWNJ or ZWJ.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200C}' | '\u{200D}')
}

fn is_selector(c: char) -> bool {
    matches!(c, '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}')
}

/// Returns whether the character is a control character, a line or paragraph separator, an
/// interlinear annotation, or `Default_Ignorable_Code_Point` of Unicode 17
/// (`DerivedCoreProperties.txt`), except joiners and selectors. All of `Bidi_Control` is included.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
                | '\u{180B}'..='\u{180F}' | '\u{200B}' | '\u{200E}'..='\u{200F}'
                | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FEFF}'
                | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}'
                | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E00FF}'
                | '\u{E01F0}'..='\u{E0FFF}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_found_wherever_it_stands() {
        let alone = "\u{200B}\u{200C}\u{200D}\u{FEFF}\u{2060}\u{AD}\u{3164}\u{180E}\u{FE0F}\u{200E}\u{200F}\u{61C}\u{2028}\u{2029}\u{202A}\u{202E}\u{2066}\u{2069}\u{E0001}\u{E0041}\u{E007F}\u{115F}\u{1160}\u{FFA0}";
        for c in alone.chars() {
            for text in [format!("{c}"), format!("{c}Root key")] {
                assert!(hides_something(&text), "{text:?}");
            }
            if !is_selector(c) {
                assert!(hides_something(&format!("Root key{c}")), "{c:?}");
                assert!(hides_something(&format!("Root {c} key")), "{c:?}");
            }
        }
        for c in ['\u{2800}', '\u{301}', ' ', '\u{3000}'] {
            assert!(!is_visible(c), "{c:?}");
        }
    }

    #[test]
    fn an_escaped_text_steers_no_terminal_and_keeps_what_people_read() {
        let text = "a\u{1b}[31m\u{9b}31m\n\u{202e}b\u{2066}\u{e0041}\u{feff}\u{7f}";
        let shown = escaped(text);
        assert_eq!(shown, "a\\u{1b}[31m\\u{9b}31m\\n\\u{202e}b\\u{2066}\\u{e0041}\\u{feff}\\u{7f}");
        assert!(!shown.chars().any(is_hidden));
        for kept in ["Jo\u{308}rg", "\u{1F468}\u{200D}\u{1F469}", "{\"a\":\"\\\\\"}", "\u{5d0}"] {
            assert_eq!(escaped(kept), kept);
        }
    }

    #[test]
    fn what_belongs_to_a_word_or_an_emoji_stays() {
        let persian = "\u{645}\u{6CC}\u{200C}\u{62E}\u{648}\u{627}\u{647}\u{645}";
        let devanagari = "\u{915}\u{94D}\u{200D}\u{937}";
        let family = "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}\u{200D}\u{1F466}";
        let heart = "on fire \u{2764}\u{FE0F}\u{200D}\u{1F525}";
        for text in [
            persian,
            devanagari,
            family,
            heart,
            "love \u{2764}\u{FE0F}",
            "J\u{F6}rg",
            "Jo\u{308}rg",
        ] {
            assert!(!hides_something(text), "{text:?}");
            assert!(text.chars().any(is_visible), "{text:?}");
        }
    }

    #[test]
    fn texts_that_look_the_same_but_for_case_are_the_same() {
        for (one, other) in [
            ("Jo\u{308}rg", "J\u{D6}RG"),
            ("STRA\u{1E9E}E", "strasse"),
            ("\u{3BF}\u{3B4}\u{3BF}\u{3C3}", "\u{39F}\u{394}\u{39F}\u{3A3}"),
            ("\u{3BF}\u{3B4}\u{3BF}\u{3C2}", "\u{39F}\u{394}\u{39F}\u{3A3}"),
            ("\u{212B}", "\u{E5}"),
        ] {
            assert_eq!(folded(one), folded(other), "{one:?} {other:?}");
        }
        assert_ne!(folded("Jorg"), folded("J\u{F6}rg"));
    }
}
