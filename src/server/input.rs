//! Input of a connection that was not forwarded yet, and where the head and the body of a request end.

use memchr::memchr_iter;
use tokio::io::ReadBuf;

/// Bytes of one read.
const PIECE: usize = 2048;

/// Lines of input, up to an empty one. Empty lines before all others do not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Lines {
    started: bool,
    line_is_empty: bool,
}

/// A place in a body in chunks (RFC 9112, 7.1). What the framework refuses ends the connection, so this reads
/// on as if it were sound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Chunks {
    /// In a size, which is so much up to here.
    Size(u64),
    /// In the line after a size.
    SizeLine(u64),
    /// So many bytes before the end of a chunk.
    Data(u64),
    /// In the end of the line after a chunk.
    DataEnd,
    /// At the first byte of a line after the last chunk.
    LastLine,
    /// In a trailer field.
    Trailer,
    TrailerLf,
    /// At the last byte of the body.
    EndLf,
}

/// Input that was read from the socket and not yet forwarded.
#[derive(Debug)]
pub(super) struct Input {
    bytes: Box<[u8]>,
    /// The range of the bytes to forward.
    start: usize,
    end: usize,
}

impl Lines {
    pub const NONE: Self = Self { started: false, line_is_empty: true };

    /// Reads more bytes. Returns the length up to the end of the empty line, if it is there. Lines end with
    /// LF or CRLF, as the framework reads them.
    pub fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let is_nothing = |it: &[u8]| matches!(it, b"" | b"\r");
        let mut start = 0;
        for at in memchr_iter(b'\n', bytes) {
            let line = bytes.get(start..at).unwrap_or_default();
            if !(self.line_is_empty && is_nothing(line)) {
                self.started = true;
            } else if self.started {
                return Some(at + 1);
            }
            (self.line_is_empty, start) = (true, at + 1);
        }
        if !is_nothing(bytes.get(start..).unwrap_or_default()) {
            (self.line_is_empty, self.started) = (false, true);
        }
        None
    }
}

impl Chunks {
    pub const START: Self = Self::Size(0);

    /// Reads more bytes. Returns the length up to the end of the body, if it is there.
    pub fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let mut length = 1;
            *self = match (*self, *byte) {
                (Self::Size(0) | Self::SizeLine(0), b'\n') | (Self::TrailerLf, _) => Self::LastLine,
                (Self::Size(size) | Self::SizeLine(size), b'\n') => Self::Data(size),
                (Self::Size(size), byte) => match char::from(byte).to_digit(16) {
                    Some(digit) => Self::Size(size.saturating_mul(16).saturating_add(digit.into())),
                    None => Self::SizeLine(size),
                },
                (Self::SizeLine(size), _) => Self::SizeLine(size),
                (Self::Data(left), _) => {
                    length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    match left - length as u64 {
                        0 => Self::DataEnd,
                        left => Self::Data(left),
                    }
                }
                (Self::DataEnd, b'\n') => Self::START,
                (Self::DataEnd, _) => Self::DataEnd,
                (Self::LastLine, b'\r') => Self::EndLf,
                (Self::Trailer, b'\r') => Self::TrailerLf,
                (Self::LastLine | Self::Trailer, _) => Self::Trailer,
                (Self::EndLf, _) => return Some(at + 1),
            };
            at += length;
        }
        None
    }
}

impl Input {
    pub fn new() -> Self {
        Self { bytes: vec![0; PIECE].into_boxed_slice(), start: 0, end: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the room for the next piece.
    pub fn room(&mut self) -> ReadBuf<'_> {
        (self.start, self.end) = (0, 0);
        ReadBuf::new(&mut self.bytes)
    }

    /// Notes that the piece has so many bytes.
    pub fn fill(&mut self, length: usize) {
        self.end = length;
    }

    pub fn clear(&mut self) {
        self.start = self.end;
    }

    /// Returns at most so many of the bytes at hand.
    pub fn bytes(&self, most: usize) -> &[u8] {
        let end = self.end.min(self.start.saturating_add(most));
        self.bytes.get(self.start..end).unwrap_or_default()
    }

    pub fn take(&mut self, length: usize) -> &[u8] {
        let start = self.start;
        self.start += length;
        self.bytes.get(start..self.start).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `text` in pieces of `length`. Returns the length of the head, if it ends.
    fn head(text: &[u8], length: usize) -> Option<usize> {
        let mut lines = Lines::NONE;
        text.chunks(length)
            .enumerate()
            .find_map(|(number, piece)| lines.end(piece).map(|it| number * length + it))
    }

    #[test]
    fn a_head_ends_with_its_first_empty_line_in_pieces_of_every_size() {
        let rest = b"\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        for text in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\n\r\nGET / HTTP/1.0\n\n", "a\r\n\n"]
        {
            let all = [text.as_bytes(), rest].concat();
            for length in 1..=all.len() {
                assert_eq!(head(&all, length), Some(text.len()), "{text:?} {length}");
            }
        }
        for text in ["GET / HTTP/1.1\r\nHost: a\r\n", "\r\n\r\n\n", "a\n \n\r \n"] {
            for length in 1..=text.len() {
                assert_eq!(head(text.as_bytes(), length), None, "{text:?} {length}");
            }
        }
    }

    #[test]
    fn a_body_ends_after_its_last_chunk_and_trailers_in_pieces_of_every_size() {
        let rest = b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        for body in [
            "0\r\n\r\n",
            "00;a=b\r\nA: b\r\nC:\r\n\r\n",
            "5\r\nab\r\n\n\r\n0\r\n\r\n",
            "7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n",
            "1a ;x\r\nabcdefghijklmnopqrstuvwxyz\r\n0A\r\n\n\n\n\n\n\n\n\n\n\n\r\n0\r\n\r\n",
        ] {
            let all = [body.as_bytes(), rest].concat();
            for length in 1..=all.len() {
                let mut chunks = Chunks::START;
                let pieces = all.chunks(length).enumerate();
                let mut ends = pieces
                    .filter_map(|(number, piece)| chunks.end(piece).map(|it| number * length + it));
                assert_eq!(ends.next(), Some(body.len()), "{body:?} {length}");
            }
            for length in 1..=body.len() {
                let mut chunks = Chunks::START;
                let before = &body.as_bytes()[..body.len() - 1];
                assert!(before.chunks(length).all(|it| chunks.end(it).is_none()), "{body:?}");
            }
        }
    }
}
