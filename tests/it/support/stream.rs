//! A reader of server-sent events that returns them one by one.

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use crate::support::Request;

/// An open stream of events.
pub struct EventStream {
    pub status: u16,
    pub head: String,
    answer: BufReader<TcpStream>,
    /// The remaining bytes of the current chunk.
    left: usize,
}

/// The lines between two blank lines.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Message {
    pub id: Option<i64>,
    pub event: Option<String>,
    pub data: Option<Value>,
    pub comment: bool,
    pub retry: Option<u32>,
}

impl EventStream {
    /// Opens it and reads the head of the answer.
    pub fn open(address: SocketAddr, request: &Request) -> Self {
        let mut answer = BufReader::new(request.open(address));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(answer.read_line(&mut head).expect("a head"), 0, "{head}");
        }
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status");
        Self { status, head, answer, left: 0 }
    }

    /// Returns the next message of any kind; `None` if the stream has ended correctly.
    pub fn next(&mut self) -> Option<Message> {
        let mut message = Message::default();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                None if line.is_empty() => return Some(message),
                Some(("", _)) => message.comment = true,
                Some(("id", it)) => message.id = Some(it.trim().parse().expect("a number")),
                Some(("event", it)) => message.event = Some(it.trim().to_owned()),
                Some(("data", it)) => message.data = serde_json::from_str(it).expect("JSON"),
                Some(("retry", it)) => message.retry = Some(it.trim().parse().expect("a number")),
                _ => panic!("{line:?}"),
            }
        }
    }

    /// Returns the next message that carries data.
    pub fn next_data(&mut self) -> Option<(String, Value)> {
        for _ in 0..500 {
            let message = self.next()?;
            if let Some(data) = message.data {
                let event = message.event.expect("an event has a type");
                assert_eq!(message.id, data["seq"].as_i64(), "{data}");
                return Some((event, data));
            }
        }
        panic!("heartbeats, and nothing else");
    }

    /// Returns the next event.
    #[track_caller]
    pub fn event(&mut self) -> Value {
        let (event, data) = self.next_data().expect("an event, not the end");
        assert_eq!(data["type"], event, "{data}");
        data
    }

    /// Returns the reason for the end of the stream, and checks that it ends.
    #[track_caller]
    pub fn end(&mut self) -> String {
        let (event, data) = self.next_data().expect("a reason");
        assert_eq!(event, "end", "{data}");
        assert!(self.next().is_none(), "it goes on");
        let mut rest = Vec::new();
        assert_eq!(self.answer.read_to_end(&mut rest).expect("an end"), 0, "{rest:?}");
        data["reason"].as_str().expect("a reason").to_owned()
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.push(self.byte()?);
        }
        line.pop();
        Some(String::from_utf8(line).expect("UTF-8"))
    }

    fn byte(&mut self) -> Option<u8> {
        if self.left == 0 {
            let size = self.chunk_line();
            self.left = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("{size:?}"));
            if self.left == 0 {
                assert_eq!(self.chunk_line(), "");
                return None;
            }
        }
        let mut byte = [0];
        self.answer.read_exact(&mut byte).expect("the rest of a chunk");
        self.left -= 1;
        if self.left == 0 {
            assert_eq!(self.chunk_line(), "");
        }
        Some(byte[0])
    }

    fn chunk_line(&mut self) -> String {
        let mut line = String::new();
        self.answer.read_line(&mut line).expect("a line");
        assert!(line.ends_with("\r\n"), "the connection broke: {line:?}");
        line.trim_end().to_owned()
    }
}
