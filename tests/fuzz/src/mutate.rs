//! Mutations of inputs.

use crate::engine::MAX_LEN;

/// Random numbers that a seed determines (SplitMix64).
pub struct Random(u64);

/// Bytes that stand between parts in most of the forms.
const MARKS: &[u8] = b" \t\r\n\0\"'\\/%.,:;=+-_#?&*[]{}()<>@|~$0129AFaf\x7f\x80\xc3\xff";

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`; 0 for 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    /// Returns a range of at most `len` bytes, which is more often short than long.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len);
        let most = [1, 4, 16, 64, len][self.below(5)].min(len - start);
        start..start + self.below(most + 1)
    }
}

/// Returns an input of the corpus with some changes. The newest inputs are changed most often.
pub fn mutated(corpus: &[Vec<u8>], tokens: &[&str], random: &mut Random) -> Vec<u8> {
    let pick = |random: &mut Random| {
        let recent = corpus.len().min(64);
        match random.below(3) {
            0 => &corpus[corpus.len() - 1 - random.below(recent)],
            _ => &corpus[random.below(corpus.len())],
        }
    };
    let mut input = pick(random).clone();
    let changes = 1 << random.below(5);
    for _ in 0..1 + random.below(changes) {
        let at = random.below(input.len() + 1);
        match random.below(12) {
            0 if !input.is_empty() => {
                let at = random.below(input.len());
                input[at] ^= 1 << random.below(8);
            }
            1 if !input.is_empty() => {
                let at = random.below(input.len());
                input[at] = MARKS[random.below(MARKS.len())];
            }
            2 => input.insert(at, MARKS[random.below(MARKS.len())]),
            3 => {
                let range = random.range(input.len());
                input.drain(range);
            }
            4 => {
                let range = random.range(input.len());
                let copy = input[range].to_vec();
                input.splice(at..at, copy);
            }
            5 | 6 => {
                let other = pick(random);
                let part = other[random.range(other.len())].to_vec();
                input.splice(at..at, part);
            }
            7 | 8 if !tokens.is_empty() => {
                input.splice(at..at, tokens[random.below(tokens.len())].bytes());
            }
            9 if !tokens.is_empty() => {
                let range = random.range(input.len());
                input.splice(range, tokens[random.below(tokens.len())].bytes());
            }
            10 => copy_line(&mut input, pick(random), random),
            _ => change_number(&mut input, random),
        }
    }
    input.truncate(MAX_LEN);
    input
}

/// Inserts a line of another input between two lines.
fn copy_line(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let lines: Vec<_> = other.split_inclusive(|it| *it == b'\n').collect();
    let Some(line) = lines.get(random.below(lines.len())) else { return };
    let starts = input.iter().enumerate().filter(|(_, it)| **it == b'\n').map(|(at, _)| at + 1);
    let starts: Vec<_> = std::iter::once(0).chain(starts).collect();
    let at = starts[random.below(starts.len())];
    input.splice(at..at, line.iter().copied());
}

/// Replaces a run of digits by a number at a boundary.
fn change_number(input: &mut Vec<u8>, random: &mut Random) {
    const NUMBERS: [&str; 14] = [
        "0",
        "1",
        "-1",
        "255",
        "256",
        "65536",
        "2147483648",
        "4294967296",
        "9007199254740993",
        "9223372036854775808",
        "18446744073709551616",
        "1e400",
        "0.1",
        "00",
    ];
    let from = random.below(input.len());
    let Some(start) = input[from..].iter().position(u8::is_ascii_digit) else { return };
    let start = from + start;
    let len = input[start..].iter().take_while(|it| it.is_ascii_digit()).count();
    input.splice(start..start + len, NUMBERS[random.below(NUMBERS.len())].bytes());
}
