//! The cost of each part of an answer: `cargo bench --bench micro`.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to report")]

use std::{
    net::IpAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use base64ct::{Base64UrlUnpadded, Encoding};
use divan::{Bencher, black_box};
use keyward::{
    config::Config,
    domain::{
        event::{EventSource, EventType, NewEvent, RequestContext, Subject},
        key_hash::KeyHash,
        plaintext_key::{PlaintextKey, PrefixLabel},
        policy::{Policy, RequiredScopes, RouteRule},
        rate_limit::RateLimit,
        request_path::RequestPath,
        scope::{Catalogue, Scope, ScopeSet},
        status_list::StatusBits,
        text::Name,
        token_key::{TokenAlgorithm, TokenKey},
    },
    env::{Env, SystemClock, SystemEntropy, Timekeeper},
    server::{Instance, Sources},
    service::{
        AccountPatch, Identity, KeyPatch, Keyward, NewKey, Principal, Question, Verification,
        Viewer,
    },
    store::{RateWindow, Store, StoreError, stored_time_floor},
};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::json;
use tempfile::TempDir;

fn main() {
    LazyLock::force(&SCENE); // Otherwise the first sample would include this.
    divan::main();
}

/// Returns the clocks and the random numbers of this machine.
fn machine() -> Env {
    let time = Timekeeper::start(Arc::new(SystemClock::new()), None);
    Env { time: Arc::new(time), entropy: Arc::new(SystemEntropy) }
}

/// An application on a data directory of its own.
struct Scene {
    dir: TempDir,
    site: Instance,
    root: PlaintextKey,
}

impl Scene {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let config = Config {
            data_dir: dir.path().to_owned(),
            public_url: Some("https://keys.example.com".to_owned()),
            ..Config::default()
        };
        let site = Instance::open(&config, Sources::system()).unwrap();
        let root = site.first_start(|_| Ok(())).unwrap().unwrap().plaintext;
        Self { dir, site, root }
    }

    fn app(&self) -> &Keyward {
        &self.site.app
    }

    fn caller(&self) -> Principal {
        let found = judged(self.app(), &self.root);
        self.app().principal(&found, RequestContext::default()).unwrap()
    }

    /// Makes keys from many threads, which share commits.
    fn fill(&self, count: usize) {
        const THREADS: usize = 64;
        let caller = self.caller();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..count / THREADS {
                        let (app, new) = (self.app(), new_key());
                        let permit = app.permit_new_key(&caller, caller.account, &new).unwrap();
                        app.create_key(permit, caller.account, new, app.mint()).unwrap();
                    }
                });
            }
        });
    }
}

fn new_key() -> NewKey {
    let scopes = ScopeSet::new([Scope::parse("orders:read").unwrap()]).unwrap();
    NewKey::new(Name::parse("Production Integration").unwrap(), scopes)
}

fn proved(app: &Keyward, key: &PlaintextKey) -> Identity {
    match app.identify(key.expose().as_bytes()) {
        Identity::Unverified(it) => app.verify_secret(it).unwrap().0,
        known @ (Identity::Known(_) | Identity::Unknown | Identity::Malformed) => known,
    }
}

fn judged(app: &Keyward, key: &PlaintextKey) -> Verification {
    app.judge(&proved(app, key), RequiredScopes::default())
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let scene = Scene::new();
    scene.fill(10_000);
    proved(scene.app(), &scene.root);
    scene
});

#[divan::bench]
fn parse_key(bencher: Bencher<'_, '_>) {
    let text = SCENE.root.expose().as_bytes();
    bencher.bench(|| PlaintextKey::parse(black_box(text)));
}

/// Parse, look up, digest, compare: the whole cost of a key with a cached digest, without the
/// verdict.
#[divan::bench]
fn identify(bencher: Bencher<'_, '_>) {
    let text = SCENE.root.expose().as_bytes();
    bencher.bench(|| SCENE.app().identify(black_box(text)));
}

#[divan::bench]
fn judge(bencher: Bencher<'_, '_>) {
    let identity = proved(SCENE.app(), &SCENE.root);
    bencher.bench(|| SCENE.app().judge(black_box(&identity), RequiredScopes::default()));
}

/// What a use records beside its count: its scope, or its scope and the address of its client. In the worst
/// case, each use comes from another address.
#[derive(Clone, Copy, Debug)]
enum Recorded {
    Nothing,
    Scope,
    ScopeAndAddress,
    ScopeAndRotatingAddress,
}

#[divan::bench(args = [
    Recorded::Nothing,
    Recorded::Scope,
    Recorded::ScopeAndAddress,
    Recorded::ScopeAndRotatingAddress,
])]
fn judge_and_record(bencher: Bencher<'_, '_>, recorded: Recorded) {
    let app = SCENE.app();
    let caller = SCENE.caller();
    let permit = app.permit_new_key(&caller, caller.account, &new_key()).unwrap();
    let key = app.create_key(permit, caller.account, new_key(), app.mint()).unwrap().plaintext;
    let identity = proved(app, &key);
    let orders = app.catalogue().find("orders:read").unwrap();
    let required = match recorded {
        Recorded::Nothing => RequiredScopes::default(),
        Recorded::Scope | Recorded::ScopeAndAddress | Recorded::ScopeAndRotatingAddress => {
            RequiredScopes::all(orders)
        }
    };
    let next = AtomicU32::new(0);
    let client_ip = || match recorded {
        Recorded::Nothing | Recorded::Scope => None,
        Recorded::ScopeAndAddress => Some(IpAddr::from([203, 0, 113, 7])),
        Recorded::ScopeAndRotatingAddress => {
            Some(IpAddr::V4(next.fetch_add(1, Ordering::Relaxed).into()))
        }
    };
    let question = Question { required, client_ip: &client_ip, cost: 1, is_ambiguous: false };
    bencher.bench_local(|| app.judge(black_box(&identity), question));
}

/// As [`judge`], for a key with a rate limit, in an account with a ceiling.
#[divan::bench(args = [false, true])]
fn judge_with_a_rate_limit(bencher: Bencher<'_, '_>, ceiling: bool) {
    let app = SCENE.app();
    let caller = SCENE.caller();
    let rate = RateLimit::new(RateLimit::MAX_LIMIT, RateLimit::MAX_WINDOW_SECS);
    let patch =
        AccountPatch { rate_limit: Some(rate.filter(|_| ceiling)), ..AccountPatch::default() };
    app.update_account(&caller, caller.account, None, patch).unwrap();
    let new = NewKey {
        settings: KeyPatch { rate_limit: Some(rate), ..KeyPatch::default() },
        ..new_key()
    };
    let permit = app.permit_new_key(&caller, caller.account, &new).unwrap();
    let key = app.create_key(permit, caller.account, new, app.mint()).unwrap().plaintext;
    let identity = proved(app, &key);
    bencher.bench(|| app.judge(black_box(&identity), RequiredScopes::default()));
    let patch = AccountPatch { rate_limit: Some(None), ..AccountPatch::default() };
    app.update_account(&caller, caller.account, None, patch).unwrap();
}

/// The rate limit alone.
#[divan::bench]
fn consume_rate(bencher: Bencher<'_, '_>) {
    let rate = RateLimit::new(RateLimit::MAX_LIMIT, RateLimit::MAX_WINDOW_SECS).unwrap();
    let (window, now) = (RateWindow::default(), SCENE.app().env().time.now());
    bencher.bench(|| window.consume(black_box(rate), 1, now));
}

/// 500 routes, as an API of 100 resources has them: five for each resource, to read and to change
/// it.
static ROUTES: LazyLock<Policy> = LazyLock::new(|| {
    let route = |methods: &[&str], path: String, scope: &str| RouteRule {
        methods: methods.iter().map(|it| (*it).to_owned()).collect(),
        path,
        scopes: Some(vec![scope.to_owned()]),
        ..RouteRule::default()
    };
    let resource = |i: usize| {
        let (reads, writes) = (&["GET", "HEAD"], &["POST", "PUT", "PATCH", "DELETE"]);
        let one = format!("/api/v1/resource-{i}/*");
        [
            route(reads, one.clone(), "a:read"),
            route(writes, one.clone(), "a:write"),
            route(&["GET"], format!("{one}/parts/*"), "a:read"),
            route(reads, format!("/api/v1/resource-{i}/**"), "a:read"),
            route(writes, format!("/api/v1/resource-{i}/**"), "a:write"),
        ]
    };
    let rules: Vec<_> = (0..100).flat_map(resource).collect();
    let catalogue = Catalogue::new(["a:read", "a:write"].map(|it| (it.to_owned(), String::new())));
    Policy::compile(&rules, &catalogue).unwrap()
});

/// Reads the path of a request and finds its route among 500, at the end.
#[divan::bench]
fn route_among_500(bencher: Bencher<'_, '_>) {
    let policy = &*ROUTES;
    bencher.bench(|| {
        let path = RequestPath::parse(black_box(b"/api/v1/resource-99/4711/parts/1?x=y")).unwrap();
        policy.find("GET", None, &path).map(|(place, _)| place)
    });
}

/// The same for a path of 8 kB, of these pieces. Lenient servers read the first as it stands, and the others in several
/// ways, each of which keyward looks up.
#[divan::bench(args = ["a/", "A/", "A./", "%20A./", "%C3%89.x/"])]
fn route_of_a_long_path(bencher: Bencher<'_, '_>, piece: &str) {
    let target = "/api/v1/resource-99/".to_owned() + &piece.repeat(8_000 / piece.len());
    bencher.bench(|| {
        let path = RequestPath::parse(black_box(target.as_bytes())).unwrap();
        ROUTES.find("GET", None, &path).map(|(place, _)| place)
    });
}

#[divan::bench]
fn pbkdf2_1000(bencher: Bencher<'_, '_>) {
    let hash = KeyHash::of(&SCENE.root, 1_000, &SystemEntropy);
    bencher.bench(|| hash.matches(black_box(&SCENE.root)));
}

#[divan::bench]
fn generate_key(bencher: Bencher<'_, '_>) {
    let brand = PrefixLabel::parse("rg").unwrap();
    bencher.bench(|| PlaintextKey::generate(black_box(brand), &SystemEntropy));
}

/// One event in a transaction of its own, synchronous=FULL: a commit to the disk.
#[divan::bench]
fn append_event(bencher: Bencher<'_, '_>) {
    let append = || SCENE.app().record_server_event(EventType::ServerStarted, json!({}));
    bencher.bench(|| append().unwrap());
}

/// 256 events in one transaction: one commit for all of them, and one more subtree of the Merkle
/// tree.
#[divan::bench]
fn append_256_events(bencher: Bencher<'_, '_>) {
    let dir = TempDir::new().unwrap();
    let (_store, writer) =
        Store::open(&dir.path().join("keyward.db"), &machine(), &Arc::new(Catalogue::new([])))
            .unwrap();
    let event = NewEvent {
        event_type: EventType::ServerStarted,
        account: None,
        subject: Subject::Server,
        data: json!({}),
    };
    bencher.bench_local(|| {
        let event = event.clone();
        writer.write(move |tx| {
            for _ in 0..256 {
                tx.record(&EventSource::CLI, &event)?;
            }
            Ok::<_, StoreError>(())
        })
    });
}

/// The proof that an event is in the log, for about 10,000 events.
#[divan::bench]
fn prove_event(bencher: Bencher<'_, '_>) {
    SCENE.app().make_checkpoint().unwrap();
    bencher.bench(|| SCENE.app().prove_event(Viewer::Operator, black_box(4711), None).unwrap());
}

/// Opens a store with a hundred thousand keys: checks the file, verifies the newest events, loads
/// the index.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn open_100_000(bencher: Bencher<'_, '_>) {
    let Scene { dir, site, .. } = {
        let scene = Scene::new();
        scene.fill(100_000);
        scene
    };
    site.close().unwrap();
    let path = site.dir.layout().database();
    drop(site);
    let env = machine();
    let catalogue = Arc::new(Catalogue::new([]));
    bencher.bench(|| {
        stored_time_floor(&path).unwrap();
        Store::open(&path, &env, &catalogue).unwrap()
    });
    drop(dir);
}

/// A million credentials take minutes to prepare: `-- --include-ignored`.
const MILLION: usize = 1_000_000;

impl Scene {
    /// Makes keys of the operator account and exchanges each for a token, so that it has a place in the
    /// status list.
    fn exchange(&self, count: usize) {
        const THREADS: usize = 64;
        let caller = self.caller();
        let patch = AccountPatch { token_exchange: Some(true), ..AccountPatch::default() };
        self.app().update_account(&caller, caller.account, None, patch).unwrap();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let app = self.app();
                    for _ in 0..count / THREADS {
                        let permit =
                            app.permit_new_key(&caller, caller.account, &new_key()).unwrap();
                        let made = app.create_key(permit, caller.account, new_key(), app.mint());
                        issue(app, &judged(app, &made.unwrap().plaintext));
                    }
                });
            }
        });
    }
}

fn issue(app: &Keyward, found: &Verification) -> String {
    let terms = app.token_terms(None, Vec::new()).unwrap();
    app.issue_token(found, &terms, None).unwrap().token
}

/// A token for a credential that has its place: claims, signature and count, without HTTP.
#[divan::bench]
fn issue_token(bencher: Bencher<'_, '_>) {
    SCENE.exchange(64);
    let found = judged(SCENE.app(), &SCENE.root);
    bencher.bench(|| issue(SCENE.app(), black_box(&found)));
}

#[divan::bench(args = TokenAlgorithm::ALL)]
fn sign_token(bencher: Bencher<'_, '_>, algorithm: TokenAlgorithm) {
    let key = TokenKey::generate(algorithm, &SystemEntropy);
    let claims = json!({ "iss": "https://keys.example.com", "scope": "orders:read" });
    bencher.bench(|| key.sign("at+jwt", black_box(&claims)));
}

/// The signature of a token, as a gateway checks it: the cost beside `identify` and `judge`.
#[divan::bench]
fn verify_token_offline(bencher: Bencher<'_, '_>) {
    let key = TokenKey::generate(TokenAlgorithm::EdDsa, &SystemEntropy);
    let decoded = |it: &str| Base64UrlUnpadded::decode_vec(it).unwrap();
    let public = decoded(key.to_jwk()["x"].as_str().unwrap());
    let public = UnparsedPublicKey::new(&ED25519, public);
    let token = key.sign("at+jwt", &json!({ "scope": "orders:read" }));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    bencher.bench(|| public.verify(black_box(signed).as_bytes(), &decoded(signature)).unwrap());
}

#[divan::bench]
fn status_list_of_10_000(bencher: Bencher<'_, '_>) {
    bench_status_list(bencher, 10_000);
}

#[divan::bench(ignore, sample_count = 10, sample_size = 1)]
fn status_list_of_a_million(bencher: Bencher<'_, '_>) {
    bench_status_list(bencher, MILLION);
}

fn bench_status_list(bencher: Bencher<'_, '_>, count: usize) {
    let scene = Scene::new();
    scene.exchange(count);
    bencher.bench(|| scene.app().make_status_list().unwrap());
}

/// The compression of a million places, of which each 1,000th is refused.
#[divan::bench]
fn status_bits_of_a_million(bencher: Bencher<'_, '_>) {
    let mut bits = StatusBits::for_places(MILLION);
    (0..1_000_000).step_by(1_000).for_each(|place| bits.refuse(place));
    bencher.bench(|| black_box(&bits).encode());
}
