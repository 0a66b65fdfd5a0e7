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

/// Returns an answer that lets a request pass, with these identity headers.
fn passing(names: &[&str]) -> String {
    let lines: String = names.iter().map(|it| format!("{it}: another\r\n")).collect();
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{lines}Content-Length: 0\r\n\r\n")
}

fn odd_answers(kind: Kind) {
    let failures = [
        String::new(),
        "\r\n\r\n".to_owned(),
        "garbage\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nX-Keyward-Key-Id: another\r\n".to_owned(),
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ];
    let strange = [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /orders\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    ];
    let incomplete: Vec<_> = (0..NAMES.len())
        .map(|left_out| {
            let names: Vec<_> = NAMES.into_iter().filter(|it| *it != NAMES[left_out]).collect();
            passing(&names)
        })
        .chain([passing(&[])])
        .collect();
    for file in kind.files() {
        let (api, keyward) = (Stub::start(OK), Stub::start(Answer::Bytes(passing(&NAMES))));
        let around = Surroundings { keyward: keyward.address, api: api.address };
        let proxy = kind.start(file, around);
        let request = Request::new("GET", "/orders").key("k").header("Host", "api.example.com");
        request.send(proxy.address).expect(200);
        assert_eq!(
            api.take_seen().len(),
            1,
            "{kind:?}: the stub must be able to let a request pass"
        );
        let ask = |answer: Answer| {
            keyward.answer_with(answer);
            let status = request.send(proxy.address).status;
            (status, api.take_seen())
        };
        // Traefik waits for 30 seconds, so it is tested once.
        let silent = (kind != Kind::Traefik || file.contains("policy")).then_some(Answer::Never);
        for answer in failures.iter().cloned().map(Answer::Bytes).chain(silent) {
            let (status, seen) = ask(answer.clone());
            assert_eq!(seen, [""; 0], "{kind:?}: {answer:?}");
            assert_eq!(status, refusal(kind, &answer), "{kind:?}: {answer:?}");
        }
        let passes_answers_on = matches!(kind, Kind::Envoy | Kind::Traefik);
        for answer in strange {
            let (status, seen) = ask(Answer::Bytes(answer.to_owned()));
            let refused = seen.is_empty() && (status == 503 || passes_answers_on);
            // Traefik lets a request pass for every 2xx answer, but then without an identity.
            let nameless = kind == Kind::Traefik && seen.iter().all(|it| !it.contains("x-keyward"));
            assert!(refused || nameless, "{kind:?}: {status}: {answer}: {seen:?}");
        }
        for answer in incomplete.iter().filter(|_| kind != Kind::Traefik) {
            let (status, seen) = ask(Answer::Bytes(answer.clone()));
            assert_eq!((status, seen), (503, vec![]), "{kind:?}: {answer}");
        }
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
