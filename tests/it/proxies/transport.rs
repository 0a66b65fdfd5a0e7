//! What the proxies transport besides plain requests.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::scene::Scene;
use crate::support::{Answer, Request, proxy::Kind};

each_proxy!(a_web_socket_opens: web_socket);
each_proxy!(no_other_upgrade_passes: other_upgrades);
each_proxy!(an_upload_of_two_megabytes_passes: upload);
each_proxy!(no_fragment_hides_a_path: fragment);

/// Less than the time for which keyward or a proxy waits for a missing body.
const PATIENCE: Duration = Duration::from_secs(5);

fn web_socket(kind: Kind) {
    for file in kind.files() {
        let scene = Scene::new(kind, file);
        scene.api.answer_with(Answer::Upgrade);
        let handshake = |key: &str| {
            let mut stream = TcpStream::connect(scene.proxy.address).expect("the proxy listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
            let head = "GET /orders HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\n\
                        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
            write!(stream, "{head}\r\n{key}\r\n").expect("the proxy reads");
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap_or_else(|err| {
                    panic!("{kind:?}: {err}: {}", String::from_utf8_lossy(&answer))
                });
                answer.extend(byte);
            }
            (stream, String::from_utf8_lossy(&answer).into_owned())
        };
        let (mut stream, answer) = handshake(&format!("X-API-Key: {}\r\n", scene.reader.text));
        assert!(answer.starts_with("HTTP/1.1 101 "), "{kind:?}: {answer}");
        stream.write_all(b"hello").expect("the socket is open");
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).expect("the API sends it back");
        assert_eq!(&echo, b"hello", "{kind:?}");
        let seen = scene.api.take_seen().pop().expect("the API was asked");
        assert!(seen.contains("\r\nupgrade: websocket\r\n"), "{kind:?}: {seen}");
        assert_eq!(seen.matches("\r\nx-keyward-").count(), 6, "{kind:?}: {seen}");

        let (_, answer) = handshake("");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{kind:?}: {answer}");
        assert_eq!(scene.api.take_seen().len(), 0, "{kind:?}");
    }
}

/// An upgrade to HTTP/2 (RFC 7540, 3.2) would be a tunnel past the proxy, which then checks no
/// request in it. Some clients offer the upgrade with each request, so the request itself may pass.
fn other_upgrades(kind: Kind) {
    for file in kind.files() {
        let scene = Scene::new(kind, file);
        for values in
            [&["h2c"][..], &["websocket, h2c"], &["websocket", "h2c"], &["H2C", "websocket"]]
        {
            let request = Request::new("GET", "/orders")
                .key(&scene.reader.text)
                .header("Connection", "Upgrade, HTTP2-Settings")
                .header("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA");
            let request = values.iter().fold(request, |it, value| it.header("Upgrade", value));
            let (_, seen) = scene.sent(&request);
            let seen = seen.unwrap_or_default();
            let offered = seen.lines().any(|it| it.starts_with("upgrade:") && it.contains("h2c"));
            assert!(!offered, "{kind:?}: {values:?}: {seen}");
        }
    }
}

/// nginx applies the body limit of its own location to the authorization request, even if the site
/// allows more.
fn upload(kind: Kind) {
    for file in kind.files() {
        let allow = |text: &str| {
            text.replace("proxy_pass http://${", "client_max_body_size 200m; proxy_pass http://${")
        };
        let scene = Scene::edited(kind, file, allow);
        let request = Request::new("POST", "/orders").key(&scene.writer.text);
        assert_eq!(scene.status(&request.body(vec![b'x'; 2_000_000])), 200, "{kind:?}");
    }
}

/// keyward's mount for Envoy does not see a fragment; a proxy may treat it as a part of the path.
fn fragment(kind: Kind) {
    for file in kind.files() {
        let scene = Scene::new(kind, file);
        for path in ["/health#/../orders/7", "/orders#/../health", "/orders/7#"] {
            for status in [scene.keyless("GET", path), scene.with(&scene.writer, "GET", path)] {
                assert!((400..500).contains(&status), "{kind:?}: {path}: {status}");
            }
        }
    }
}
