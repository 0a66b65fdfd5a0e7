//! The faults of a request. An answer lists a limited number of them: the client chooses how many
//! there are.

/// One fault of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// A JSON pointer into the body, or `/` and the name of a query parameter.
    pub pointer: String,
    /// A stable name, for programs.
    pub code: &'static str,
    /// A sentence, for people.
    pub detail: String,
}

impl Fault {
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into() }
    }

    fn further() -> Self {
        Self::new("", Faults::FURTHER, "there are further faults; correct these first")
    }
}

/// The first faults of a request, at most [`Faults::MOST`]. If there are more, the last one says so.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Faults {
    list: Vec<Fault>,
    /// The bytes of their texts in an answer.
    bytes: usize,
}

impl Faults {
    pub const MOST: usize = 100;
    /// The code of the last fault, if there are more.
    pub const FURTHER: &str = "too_many_faults";
    /// The most bytes of their texts in an answer, so that a problem document has less than 64 KiB.
    const MOST_BYTES: usize = 48 * 1024;

    /// Adds a fault, unless there are enough.
    pub fn push(&mut self, fault: Fault) {
        if self.is_full() {
            return;
        }
        let bytes = self.bytes + json_len(&fault.pointer) + json_len(&fault.detail);
        if self.list.len() == Self::MOST || Self::MOST_BYTES < bytes {
            self.list.push(Fault::further());
            return;
        }
        self.bytes = bytes;
        self.list.push(fault);
    }

    /// Returns whether no further fault is added. A loop over the input of a client can end then.
    pub fn is_full(&self) -> bool {
        self.list.last().is_some_and(|it| it.code == Self::FURTHER)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.list.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self::from_iter([fault])
    }
}

impl Extend<Fault> for Faults {
    fn extend<I: IntoIterator<Item = Fault>>(&mut self, faults: I) {
        for fault in faults {
            if self.is_full() {
                return;
            }
            self.push(fault);
        }
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        let mut all = Self::default();
        all.extend(faults);
        all
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Returns the length of a text inside a JSON string.
fn json_len(text: &str) -> usize {
    let of_byte = |it: u8| match it {
        b'"' | b'\\' => 2,
        0..=0x1F => 6,
        _ => 1,
    };
    text.bytes().map(of_byte).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(detail: &str) -> Fault {
        Fault::new("/x", "out_of_range", detail)
    }

    fn codes(faults: &Faults) -> (usize, bool) {
        (faults.len(), faults.iter().any(|it| it.code == Faults::FURTHER))
    }

    #[test]
    fn the_last_of_too_many_faults_says_that_there_are_more() {
        let of = |count| std::iter::repeat_n(fault("x"), count).collect::<Faults>();
        assert_eq!(codes(&of(Faults::MOST)), (Faults::MOST, false));
        assert_eq!(codes(&of(Faults::MOST + 1)), (Faults::MOST + 1, true));
        let mut both = of(Faults::MOST + 9);
        both.extend(of(Faults::MOST + 9));
        assert_eq!(codes(&both), (Faults::MOST + 1, true));
        let mut few = of(1);
        few.extend(of(Faults::MOST + 9));
        few.push(fault("lost"));
        assert_eq!(codes(&few), (Faults::MOST + 1, true));
        assert_eq!(few.iter().last().unwrap().code, Faults::FURTHER);
    }

    #[test]
    fn long_faults_are_fewer() {
        for text in ["x", "\u{1}", "\\", "\u{1F511}"] {
            let long = text.repeat(1_000 / text.len());
            let faults: Faults = std::iter::repeat_n(fault(&long), 90).collect();
            let sent: Vec<_> = faults.iter().map(|it| (&it.pointer, &it.detail)).collect();
            let sent = serde_json::to_string(&sent).unwrap();
            assert!((40_000..52_000).contains(&sent.len()), "{text:?}: {}", sent.len());
            assert!(faults.is_full() && faults.len() < 60, "{text:?}");
        }
    }
}
