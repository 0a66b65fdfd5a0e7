//! Where the server listens: addresses, sockets, TLS, and sockets from its supervisor.

use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    process::{Command, Stdio},
};

use keyward::env::Timestamp;
use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd, generate_simple_self_signed};

use crate::support::{Process, Supervised, has, keyward};

const PLAIN: &str = "listen = \"127.0.0.1:0\"\n";

/// Writes a certificate for this machine, and its private key.
fn certify(dir: &Path, name: &str) -> String {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    fs::write(&certificate, cert.pem()).unwrap();
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    format!(
        "listen = \"127.0.0.1:0\"\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        certificate.display(),
        key.display()
    )
}

/// Runs curl; returns its exit code and its output.
fn curl(arguments: &[&str]) -> (i32, String) {
    let output = Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output();
    let output = output.expect("curl");
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn it_listens_at_several_places_and_removes_its_socket() {
    if !has(&["curl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("public.sock");
    let config = format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]\n", socket.display());
    // A socket without a listener, as a crash leaves it behind.
    drop(UnixListener::bind(&socket).unwrap());
    let server = Supervised::serve(dir.path(), &config);
    let url = server.url("http://");
    assert_eq!(curl(&[&format!("{url}/livez")]), (0, "ok\n".to_owned()));
    let by_socket = ["--unix-socket", socket.to_str().unwrap(), "http://localhost/metrics"];
    let (code, metrics) = curl(&by_socket);
    assert_eq!(code, 0);
    assert!(metrics.contains("keyward_key_values"), "as from loopback: {metrics}");
    let forwarded = [&by_socket[..], &["-H", "X-Forwarded-For: 203.0.113.9"]].concat();
    assert!(
        curl(&forwarded).1.contains("missing_key"),
        "its header about the client address is trusted"
    );

    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let second = keyward()
        .args(["serve", "--listen", &format!("unix:{}", socket.display()), "--data-dir"])
        .arg(&other)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1), "another process listens there");
    assert!(server.terminate().status.success());
    assert!(!socket.exists());

    fs::write(&socket, "precious").unwrap();
    let third = keyward()
        .args(["serve", "--listen", &format!("unix:{}", socket.display()), "--data-dir"])
        .arg(&other)
        .output()
        .unwrap();
    assert_eq!(third.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn tls_works_and_the_certificate_is_replaced_under_load() {
    if !has(&["curl", "openssl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (certify(dir.path(), "a"), certify(dir.path(), "b"));
    let server = Supervised::serve(dir.path(), &first);
    let url = server.url("https://");
    let address = format!("{url}/livez");
    let trusting = |name: &str| {
        let authority = dir.path().join(format!("{name}.pem"));
        curl(&["--cacert", authority.to_str().unwrap(), &address])
    };
    assert_eq!(trusting("a"), (0, "ok\n".to_owned()));
    assert_eq!(trusting("b").0, 60, "it is another certificate");
    let (code, _) = curl(&[&address.replace("https", "http")]);
    assert_ne!(code, 0, "no byte is sent without TLS");
    for (version, expected) in [("1.1", 35), ("1.2", 0), ("1.3", 0)] {
        let most = ["--insecure", "--tls-max", version, &address];
        let floor = format!("--tlsv{version}");
        assert_eq!(curl(&[&most[..], &[&floor]].concat()).0, expected, "TLS {version}");
    }

    // The command line accepts the certificate authority too.
    let list_keys = |key: &str, authority: &str| {
        let mut command = keyward();
        command.args(["keys", "list", "--url", &url]).env("KEYWARD_KEY", key);
        command.env("KEYWARD_CA_FILE", dir.path().join(authority)).output().unwrap()
    };
    let keys = list_keys(&server.root_key(), "a.pem");
    assert!(keys.status.success(), "{}", String::from_utf8_lossy(&keys.stderr));
    let code = list_keys("x", "b.pem").status.code();
    assert_eq!(code, Some(1), "a server without a trusted certificate gets no key");

    // This connection stays open and sends a request before and after the change.
    let mut kept = Command::new("openssl");
    let host = url.strip_prefix("https://").unwrap();
    kept.args(["s_client", "-quiet", "-connect", host]);
    kept.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut kept = Process::start(&mut kept);
    let mut input = kept.stdin.take().unwrap();
    input.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();

    let said = server.reload(&second);
    assert!(said.contains("reloaded"), "{said}");
    assert_eq!(trusting("b"), (0, "ok\n".to_owned()));
    assert_eq!(trusting("a").0, 60);
    input.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let answers = kept.wait_with_output().stdout;
    let answers = String::from_utf8_lossy(&answers).matches("200 OK").count();
    assert_eq!(answers, 2, "an open connection stays open");

    fs::write(dir.path().join("b.pem"), "nonsense").unwrap();
    let said = server.reload(&second);
    assert!(said.contains("not reloaded") && said.contains("b.pem"), "{said}");
    fs::copy(dir.path().join("a.pem"), dir.path().join("b.pem")).unwrap();
    let said = server.reload(&second);
    assert!(said.contains("do not work together"), "{said}");
    assert_eq!(curl(&["--insecure", &address]).0, 0, "the old one stays");
}

#[test]
fn mistakes_in_the_tls_settings_are_reported_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let good = certify(dir.path(), "a");
    certify(dir.path(), "b");
    let refused = |config: &str| {
        let file = dir.path().join("k.toml");
        fs::write(&file, config).unwrap();
        let check = keyward().args(["config", "check", "--config"]).arg(&file).output().unwrap();
        assert_eq!(check.status.code(), Some(78), "{config}");
        let mut serve = keyward();
        serve.args(["serve", "--config"]).arg(&file).arg("--data-dir").arg(dir.path().join("d"));
        assert_eq!(serve.output().unwrap().status.code(), Some(78), "{config}");
        assert!(!dir.path().join("d").exists());
        String::from_utf8_lossy(&check.stderr).into_owned()
    };
    let half = good.lines().take(3).collect::<Vec<_>>().join("\n");
    assert!(refused(&half).contains("both"));
    assert!(refused(&good.replace("a.key", "b.key")).contains("do not work together"));
    assert!(refused(&good.replace("a.key", "c.key")).contains("cannot be read"));
    assert!(
        refused(&good.replace("a.pem", "a.key")).contains("no PEM section of the expected kind")
    );
    let text = fs::read_to_string(dir.path().join("a.pem")).unwrap();
    fs::write(dir.path().join("cut.pem"), &text[..text.len() - 40]).unwrap();
    assert!(refused(&good.replace("a.pem", "cut.pem")).contains("it is cut off"));
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let locked_key = dir.path().join("locked.key");
    fs::write(&locked_key, locked).unwrap();
    fs::set_permissions(&locked_key, Permissions::from_mode(0o600)).unwrap();
    assert!(refused(&good.replace("a.key", "locked.key")).contains("pass phrase"));
    let key = dir.path().join("a.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&good).contains("other users"));
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    let config = dir.path().join("k.toml");
    // A byte order mark, which some editors write, does no harm.
    fs::write(dir.path().join("a.pem"), format!("\u{feff}{text}")).unwrap();
    let check = keyward().args(["config", "check", "--config"]).arg(config).output().unwrap();
    assert!(check.status.success());
}

/// Writes a certificate that ends in this many days, and its private key.
fn certify_until(dir: &Path, name: &str, days: i64) -> String {
    let config = certify(dir, name);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seconds = i64::try_from(now.as_secs()).unwrap() + days * 86_400;
    let end = Timestamp::from_millis(seconds * 1_000).to_string();
    let part = |range: std::ops::Range<usize>| end[range].parse::<u8>().unwrap();
    params.not_after = date_time_ymd(end[..4].parse().unwrap(), part(5..7), part(8..10));
    fs::write(dir.join(format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    config
}

#[test]
fn an_expired_or_soon_expiring_certificate_is_reported_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    for (days, expected) in [(-10, Some("expired at")), (3, Some("expires at")), (60, None)] {
        let data = dir.path().join(days.to_string());
        fs::create_dir(&data).unwrap();
        let config = certify_until(&data, "a", days);
        let server = Supervised::serve(&data, &config);
        let log = server.said();
        let doctor = keyward()
            .args(["doctor", "--config"])
            .arg(data.join("keyward.toml"))
            .arg("--data-dir")
            .arg(data.join("data"))
            .output()
            .unwrap();
        let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
        let row = doctor.lines().find(|it| it.starts_with("certificate")).unwrap();
        if let Some(text) = expected {
            assert!(log.contains(&format!("the TLS certificate {text}")), "{days}: {log}");
            assert!(row.contains("warning") && row.contains(text), "{days}: {row}");
        } else {
            assert!(!log.contains("the TLS certificate"), "{days}: {log}");
            assert!(row.contains("ok") && row.contains("valid until"), "{days}: {row}");
        }
        assert!(server.terminate().status.success());
    }
}

#[test]
fn an_unencrypted_listener_that_is_open_to_the_network_causes_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let server = Supervised::serve(dir.path(), "listen = \"0.0.0.0:0\"\n");
    assert!(server.said().contains("without encryption"), "{}", server.said());
    assert!(server.terminate().status.success());
    let dir = tempfile::tempdir().unwrap();
    let server = Supervised::serve(dir.path(), PLAIN);
    assert!(!server.said().contains("without encryption"));
    assert!(server.terminate().status.success());
    let dir = tempfile::tempdir().unwrap();
    let server = Supervised::serve(dir.path(), "listen = \"[::ffff:127.0.0.1]:0\"\n");
    assert!(!server.said().contains("without encryption"), "an IPv4 loopback address as IPv6");
    assert!(server.terminate().status.success());
    let dir = tempfile::tempdir().unwrap();
    let tls = certify(dir.path(), "a").replace("127.0.0.1:0", "0.0.0.0:0");
    let server = Supervised::serve(dir.path(), &tls);
    assert!(!server.said().contains("without encryption"));
}
