//! A real proxy with keyward beside it and an API behind it.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    Answer, Key, Request, ReservedAddress, Response, Stub, TestServer,
    authz::sample,
    forged,
    proxy::{Kind, Proxy, Surroundings},
};

pub const READS: [&str; 5] =
    ["orders:read", "products:read", "inventory:read", "commissions:read", "webhooks:read"];
pub const WRITES: [&str; 4] =
    ["orders:write", "products:write", "inventory:write", "webhooks:write"];

pub const OK: Answer = Answer::Head("HTTP/1.1 200 OK");

pub struct Scene {
    pub keyward: TestServer,
    pub api: Stub,
    pub proxy: Proxy,
    pub reader: Key,
    pub writer: Key,
    expired: Key,
    _reserved: ReservedAddress,
}

impl Scene {
    pub fn new(kind: Kind, file: &str) -> Self {
        Self::edited(kind, file, str::to_owned)
    }

    /// As [`Scene::new`], with the files of the proxy edited.
    pub fn edited(kind: Kind, file: &str, edit: impl Fn(&str) -> String) -> Self {
        let mut keyward = TestServer::start();
        // A fixed address, so that the server can return to it.
        let reserved = ReservedAddress::new();
        let address = reserved.address;
        let policy = file.contains("policy").then(sample);
        keyward.restart(|it| (it.listen, it.authz.policy_file) = (vec![address.into()], policy));
        let (reader, writer) = (keyward.key(&READS), keyward.key(&WRITES));
        let body = json!({ "name": "e", "scopes": READS, "expiresAt": "2026-01-01T00:01:00Z" });
        let expired = keyward.create(&keyward.root.text, &body);
        keyward.advance(Duration::from_mins(1));
        let api = Stub::start(OK);
        let around = Surroundings { keyward: address, api: api.address };
        let proxy = kind.start_edited(file, around, edit);
        Self { keyward, api, proxy, reader, writer, expired, _reserved: reserved }
    }

    pub fn send(&self, request: Request) -> Response {
        request.header("Host", "api.example.com").send(self.proxy.address)
    }

    /// Returns the status. Checks that the API got the request exactly if it passed.
    #[track_caller]
    pub fn status(&self, request: &Request) -> u16 {
        self.sent(request).0
    }

    /// Returns the status and, if the request passed, the head that the API got.
    #[track_caller]
    pub fn sent(&self, request: &Request) -> (u16, Option<String>) {
        self.api.take_seen();
        let response = self.send(request.clone());
        let mut seen = self.api.take_seen();
        assert_eq!(seen.len(), usize::from(response.status == 200), "{request:?}: {response:?}");
        (response.status, seen.pop())
    }

    pub fn keyless(&self, method: &str, path: &str) -> u16 {
        self.status(&Request::new(method, path))
    }

    pub fn with(&self, key: &Key, method: &str, path: &str) -> u16 {
        self.status(&Request::new(method, path).key(&key.text))
    }

    /// Returns the statuses without a key, and with the reader's, the writer's, an expired and an
    /// invented key.
    pub fn statuses(&self, method: &str, path: &str) -> [u16; 5] {
        let forgery = Key { text: forged("rg_"), ..self.reader.clone() };
        [
            self.keyless(method, path),
            self.with(&self.reader, method, path),
            self.with(&self.writer, method, path),
            self.with(&self.expired, method, path),
            self.with(&forgery, method, path),
        ]
    }
}
