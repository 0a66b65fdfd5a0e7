//! The hook is broken: it raises an error, cannot be loaded, asks the wrong address, or gets an
//! invalid answer. No request passes.

use super::scene::OK;
use crate::support::{
    Answer, Request, ReservedAddress, Stub, forged,
    proxy::{Kind, Surroundings},
};

each_proxy!(no_odd_answer_lets_a_request_pass: odd_answers);
each_proxy!(no_broken_file_lets_a_request_pass: broken_files);

const NAMES: [&str; 6] = [
    "X-Keyward-Key-Id",
    "X-Keyward-Key-Name",
    "X-Keyward-Account-Id",
    "X-Keyward-External-Id",
    "X-Keyward-Scopes",
    "X-Keyward-Key-Expires-At",
];

/// Returns an answer with this status line, these identity headers, and more lines and a body.
fn answer(status: &str, names: &[&str], value: &str, rest: &str) -> String {
    let lines: String = names.iter().map(|it| format!("{it}: {value}\r\n")).collect();
    format!("{status}\r\nConnection: close\r\n{lines}{rest}")
}

/// Returns an answer that lets a request pass, with these identity headers.
fn passing(names: &[&str]) -> String {
    answer("HTTP/1.1 200 OK", names, "another", "Content-Length: 0\r\n\r\n")
}

/// Answers that are no answer: the proxy must find that its hook has failed.
fn failures() -> Vec<Answer> {
    let whole = passing(&NAMES);
    let with = |rest| answer("HTTP/1.1 200 OK", &NAMES, "another", rest);
    let half = whole[..whole.len() / 2].to_owned();
    let cut = [
        String::new(),
        "\r\n\r\n".to_owned(),
        "garbage\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nX-Keyward-Key-Id: another\r\n".to_owned(),
        half.clone(),
        whole[..whole.len() - 2].to_owned(),
        // The body is cut off.
        with("Content-Length: 10\r\n\r\n"),
        with("Content-Length: 10\r\n\r\nfive!"),
        with("Transfer-Encoding: chunked\r\n\r\n"),
        with("Transfer-Encoding: chunked\r\n\r\n5\r\nfi"),
        with("Content-Length: 10\r\nContent-Length: 0\r\n\r\n"),
        with("Content-Length: x\r\n\r\n"),
    ];
    let garbled = [
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 -200 OK",
        "HTTP/1.1 x00 OK",
        "HTTP/1.1",
        "200 OK",
        "GET / HTTP/1.1",
        "\0HTTP/1.1 200 OK",
    ];
    let garbled = garbled.map(|it| answer(it, &NAMES, "another", "Content-Length: 0\r\n\r\n"));
    cut.into_iter().chain(garbled).map(Answer::Bytes).collect()
}

/// Answers that never end.
fn silences() -> Vec<Answer> {
    let whole = passing(&NAMES);
    let body = answer("HTTP/1.1 200 OK", &NAMES, "another", "Content-Length: 10\r\n\r\nfive!");
    let head = whole[..whole.len() / 2].to_owned();
    vec![Answer::Never, Answer::Stall(head), Answer::Stall(body)]
}

/// Whole answers that let no request pass, although they name an identity.
fn refusals() -> Vec<String> {
    let statuses = [
        "101 Switching Protocols",
        "201 Created",
        "204 No Content",
        "206 Partial Content",
        "299 Strange",
        "300 Multiple Choices",
        "302 Found",
        "304 Not Modified",
        "400 Bad Request",
        "404 Not Found",
        "407 Proxy Authentication Required",
        "500 Internal Server Error",
        "503 Service Unavailable",
        "599 Strange",
        "600 Strange",
        "999 Strange",
    ];
    let rest = "Location: /orders\r\nContent-Length: 0\r\n\r\n";
    let named =
        statuses.map(|it| answer(&format!("HTTP/1.1 {it}"), &NAMES, "another", rest)).into_iter();
    // Two answers, of which only the second one would let the request pass.
    let both = ["401 Unauthorized", "403 Forbidden", "500 Internal Server Error", "302 Found"]
        .map(|it| format!("HTTP/1.1 {it}\r\nContent-Length: 0\r\n\r\n{}", passing(&NAMES)));
    let early = "HTTP/1.1 103 Early Hints\r\nX-Keyward-Key-Id: another\r\n\r\n\
                 HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    named.chain(both).chain([early.to_owned()]).collect()
}

/// Answers with 200 whose identity is incomplete: each header is missing, or empty.
fn incomplete() -> Vec<String> {
    let without = |left_out: usize| {
        let names: Vec<_> = NAMES.into_iter().filter(|it| *it != NAMES[left_out]).collect();
        let empty = format!("{}: \r\nContent-Length: 0\r\n\r\n", NAMES[left_out]);
        [passing(&names), answer("HTTP/1.1 200 OK", &names, "another", &empty)]
    };
    (0..NAMES.len()).flat_map(without).chain([passing(&[])]).collect()
}

fn odd_answers(kind: Kind) {
    for file in kind.files() {
        let (api, keyward) = (Stub::start(OK), Stub::start(Answer::Bytes(passing(&NAMES))));
        let around = Surroundings { keyward: keyward.address, api: api.address };
        let proxy = kind.start(file, around);
        let request = Request::new("GET", "/orders").key("k").header("Host", "api.example.com");
        let ask = |answer: Answer| {
            keyward.answer_with(answer);
            let status = request.send(proxy.address).status;
            (status, api.take_seen())
        };
        let can_pass = || {
            let (status, seen) = ask(Answer::Bytes(passing(&NAMES)));
            assert_eq!((status, seen.len()), (200, 1), "{kind:?}: a good answer must pass");
        };
        can_pass();
        let mut wrong = Vec::new();
        // Traefik waits for 30 seconds, so it is tested once.
        let silences = match (kind, file.contains("policy")) {
            (Kind::Traefik, true) => vec![Answer::Never],
            (Kind::Traefik, false) => vec![],
            _ => silences(),
        };
        for answer in failures().into_iter().chain(silences) {
            let (status, seen) = ask(answer.clone());
            if !seen.is_empty() && kind == Kind::Traefik && has_a_head(&answer) {
                continue;
            }
            if !seen.is_empty() || !failed(kind, status) {
                wrong.push(format!("{status}: {answer:?}: {seen:?}"));
            }
        }
        for answer in refusals() {
            if kind == Kind::Traefik && answer.starts_with("HTTP/1.1 2") {
                continue;
            }
            // Go's client may take the second of two answers for that to the next question.
            let end = if matches!(kind, Kind::Caddy | Kind::Traefik) {
                "Connection: close\r\n"
            } else {
                ""
            };
            let answer = answer.replacen(
                "Content-Length: 0\r\n\r\nHTTP",
                &format!("{end}Content-Length: 0\r\n\r\nHTTP"),
                1,
            );
            let (status, seen) = ask(Answer::Bytes(answer.clone()));
            let shown = matches!(status, 103 | 400 | 401 | 403);
            let passes_on = matches!(kind, Kind::Envoy | Kind::Traefik);
            if !seen.is_empty() || !(shown || passes_on || failed(kind, status)) {
                wrong.push(format!("{status}: {answer:?}: {seen:?}"));
            }
        }
        for answer in incomplete().into_iter().filter(|_| kind != Kind::Traefik) {
            let (status, seen) = ask(Answer::Bytes(answer.clone()));
            if (status, seen.len()) != (503, 0) {
                wrong.push(format!("{status}: {answer:?}: {seen:?}"));
            }
        }
        can_pass();
        assert!(wrong.is_empty(), "{kind:?}: {file}: {wrong:#?}");
    }
}

/// Returns whether the head is whole and its status good. Traefik lets a request pass for every 2xx answer,
/// and looks neither at the headers nor at the body.
fn has_a_head(answer: &Answer) -> bool {
    let (Answer::Bytes(it) | Answer::Stall(it)) = answer else { return false };
    it.starts_with("HTTP/1.1 200 ") && it.contains("\r\n\r\n")
}

/// Returns whether the proxy says that its hook has failed. Envoy passes on an answer with a strange status.
fn failed(kind: Kind, status: u16) -> bool {
    match kind {
        Kind::Traefik => status == 500,
        Kind::Envoy => status == 503 || !(200..300).contains(&status),
        _ => status == 503,
    }
}

/// Traefik passes on the answer that it got, and answers 500 if it got none.
fn refusal(kind: Kind, answer: &Answer) -> u16 {
    match answer {
        Answer::Bytes(it) if kind == Kind::Traefik && it.starts_with("HTTP/1.1 503") => 503,
        _ if kind == Kind::Traefik => 500,
        _ => 503,
    }
}

/// A part of a shipped file, and its replacement.
type Edit = (&'static str, &'static str);

/// Each of these edits must change a file.
fn edits(kind: Kind) -> &'static [Edit] {
    match kind {
        Kind::HaProxy => &[
            ("core.register_action(", "error(\"boom\")\ncore.register_action("),
            ("local done, status", "error(\"boom\")\nlocal done, status"),
            ("local done, status", "while true do end\nlocal done, status"),
            ("local done, status", "do return end\nlocal done, status"),
            ("local answer = ask(", "error(\"boom\")\nlocal answer = ask("),
            ("timeout = timeout_ms", "timeout = {}"),
            ("KEYWARD_AUTHZ_URL http://", "KEYWARD_AUTHZ_URL "),
            ("KEYWARD_AUTHZ_URL http://", "KEYWARD_AUTHZ_URL unix:/"),
            ("KEYWARD_AUTHZ_URL http://", "KEYWARD_AUTHZ_URL https://"),
        ],
        Kind::Apache => &[
            ("local function judge(r)", "local function judge(r) error(\"boom\")"),
            ("function keyward(r)", "function keyward(r) error(\"boom\")"),
            ("function keyward(r)", "function keyward(r) do return end"),
            ("function keyward(r)", "function keyward(r) do return apache2.DECLINED end"),
            ("function keyward(r)", "function other(r)"),
            ("function keyward(r)", "function keyward(r"),
            ("require(\"socket\")", "require(\"no-such-module\")"),
            ("LuaHookAccessChecker", "#"),
            ("keyward_url=http://", "keyward_url="),
            ("keyward_url=http://", "keyward_url=unix:/"),
            ("keyward_url=http://", "other="),
        ],
        Kind::Envoy => &[
            (
                "function envoy_on_request(request)",
                "function envoy_on_request(request) error(\"boom\")",
            ),
            ("cluster: keyward, timeout", "cluster: other, timeout"),
        ],
        Kind::Nginx => &[
            ("http://keyward/authz", "https://keyward/authz"),
            ("auth_request /", "# auth_request /"),
            ("upstream keyward {", "underscores_in_headers on;\nupstream keyward {"),
        ],
        Kind::Caddy => &[("{$KEYWARD:127", "{$KEYWARD:unix//127")],
        Kind::Traefik => &[
            ("address: http://", "address: "),
            ("address: http://", "address: unix:/"),
            ("address: http://", "address: https://"),
        ],
    }
}

/// The proxy may refuse to start, but must not let a request pass.
fn broken_files(kind: Kind) {
    for (file, (from, to)) in
        kind.files().into_iter().flat_map(|it| edits(kind).iter().map(move |e| (it, e)))
    {
        // This stub takes the place of keyward and allows every request.
        let (api, keyward) = (Stub::start(OK), Stub::start(Answer::Bytes(passing(&NAMES))));
        let around = Surroundings { keyward: keyward.address, api: api.address };
        let edited = std::cell::Cell::new(false);
        let proxy = kind.try_start(file, around, |text| {
            edited.set(edited.get() || text.contains(from));
            text.replace(from, to)
        });
        assert!(edited.get(), "{kind:?}: no file contains {from}");
        let Some(proxy) = proxy else { continue };
        let bearer = format!("Bearer {}", forged("rg_"));
        let request = Request::new("GET", "/orders").header("Authorization", &bearer);
        let status = request.header("Host", "api.example.com").send(proxy.address).status;
        let seen = api.take_seen();
        let expected: &[u16] = match kind {
            Kind::Traefik => &[404, 500],
            // mod_lua itself answers 500 if the hook cannot run.
            Kind::Apache => &[500, 503],
            _ => &[503],
        };
        let refused = seen.is_empty() && expected.contains(&status);
        assert!(refused, "{kind:?}: {file}: {to}: {status}: {seen:?}");
    }
    keyward_is_not_there(kind);
}

fn keyward_is_not_there(kind: Kind) {
    for file in kind.files() {
        let api = Stub::start(OK);
        let reserved = ReservedAddress::new();
        let around = Surroundings { keyward: reserved.address, api: api.address };
        let proxy = kind.start(file, around);
        let request = Request::new("GET", "/orders").header("Host", "api.example.com");
        let status = request.send(proxy.address).status;
        assert_eq!(api.take_seen(), [""; 0], "{kind:?}: {file}");
        assert_eq!(status, refusal(kind, &Answer::Never), "{kind:?}: {file}");
    }
}
