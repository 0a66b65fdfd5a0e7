//! The console: static files that ask no other server, with strict headers.

use std::{collections::BTreeMap, fs, path::Path};

use keyward::config::DEFAULT_FILE;
use pbkdf2::sha2::{Digest, Sha256};

use crate::support::{Request, Response, TestServer};

/// Returns every file of the console with its path below `/console/`.
fn files() -> BTreeMap<String, Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/console");
    let (mut found, mut dirs) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    assert!(found.contains_key("index.html") && 5 < found.len());
    found
}

/// Returns the texts of the files that are keyward's own.
fn own_texts() -> impl Iterator<Item = (String, String)> {
    let own = files().into_iter().filter(|(name, _)| !name.starts_with("vendor/"));
    own.map(|(name, bytes)| (name, String::from_utf8(bytes).expect("UTF-8")))
}

fn page(server: &TestServer, path: &str) -> Response {
    server.send(&Request::new("GET", path))
}

#[track_caller]
fn assert_strict_headers(answer: &Response) {
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                  connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";
    for (name, value) in [
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name} of {answer:?}");
    }
    assert!(!policy.contains("unsafe"));
    let permissions = answer.header("permissions-policy").expect("a permissions policy");
    for feature in ["camera=()", "geolocation=()", "microphone=()"] {
        assert!(permissions.contains(feature), "{permissions}");
    }
    assert_eq!(answer.header("set-cookie"), None);
}

#[test]
fn every_file_of_the_console_is_served_with_its_type_and_strict_headers() {
    let server = TestServer::start();
    let files = files();
    for (name, bytes) in &files {
        let answer = page(&server, &format!("/console/{name}")).expect(200);
        assert_eq!(&answer.body, bytes, "{name}");
        let wanted = match name.rsplit('.').next().unwrap() {
            "html" => "text/html; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "md" | "txt" => "text/plain; charset=utf-8",
            other => panic!("{name}: no content type for {other}"),
        };
        assert_eq!(answer.header("content-type"), Some(wanted), "{name}");
        assert_strict_headers(&answer);
    }
    let index = page(&server, "/console/").expect(200);
    assert_eq!(index.body, files["index.html"]);
    assert_strict_headers(&index);
    let head = server.send(&Request::new("HEAD", "/console/")).expect(200);
    let length = index.body.len().to_string();
    assert_eq!(head.header("content-length"), Some(&*length));
    assert!(head.body.is_empty());
    assert_strict_headers(&head);
}

#[test]
fn refusals_and_redirects_have_the_same_headers() {
    let server = TestServer::start();
    let moved = page(&server, "/console").expect(307);
    assert_eq!(moved.header("location"), Some("/console/"));
    assert_strict_headers(&moved);
    for path in ["/console/nothing", "/console/vendor", "/console/../Cargo.toml", "/console//"] {
        let answer = page(&server, path).expect(404);
        assert_eq!(answer.problem(), "not_found", "{path}");
        if !path.contains("..") {
            assert_strict_headers(&answer);
        }
    }
    for path in ["/console", "/console/", "/console/app.js", "/console/nothing"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let answer = server.send(&Request::new(method, path)).expect(405);
            assert_eq!(answer.problem(), "method_not_allowed", "{method} {path}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method} {path}");
            assert_strict_headers(&answer);
        }
    }
    // Another spelling of the same address has the same headers.
    assert_strict_headers(&page(&server, "/%63onsole/app.js").expect(200));
    // An address that only begins like the console is none of its pages.
    let other = page(&server, "/consoles").expect(404);
    assert_eq!(other.header("content-security-policy"), None);
    // Refusals of Swagger UI have the headers of its page, too.
    for (method, path, status) in [("GET", "/docs/nothing", 404), ("POST", "/docs/", 405)] {
        let answer = server.send(&Request::new(method, path)).expect(status);
        assert!(answer.header("content-security-policy").is_some(), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn a_browser_downloads_a_file_again_only_if_it_changed() {
    let mut server = TestServer::start();
    let tag_of = |answer: &Response| answer.header("etag").expect("an entity tag").to_owned();
    let first = page(&server, "/console/app.js").expect(200);
    let tag = tag_of(&first);
    assert!(tag.starts_with('"') && tag.len() == 45, "{tag} is a strong entity tag");
    assert_ne!(tag, tag_of(&page(&server, "/console/style.css").expect(200)));
    server.restart(|_| ());
    let ask = |known: &str| {
        let request = Request::new("GET", "/console/app.js").header("If-None-Match", known);
        server.send(&request)
    };
    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let answer = ask(&known).expect(304);
        assert!(answer.body.is_empty());
        assert_eq!(tag_of(&answer), tag);
        assert_strict_headers(&answer);
    }
    for other in ["\"x\"", "W/\"x\"", "", "nonsense"] {
        assert_eq!(ask(other).expect(200).body, first.body, "{other}");
    }
}

#[test]
fn console_false_removes_the_page() {
    let server = TestServer::with(|config| config.console = false);
    for path in ["/console", "/console/", "/console/app.js"] {
        assert_eq!(page(&server, path).expect(404).problem(), "not_found", "{path}");
        let answer = server.send(&Request::new("POST", path)).expect(404);
        assert_eq!(answer.problem(), "not_found", "{path}");
    }
    assert!(DEFAULT_FILE.contains("\n#console = true\n"));
}

#[test]
fn the_console_is_not_in_the_api_document() {
    let server = TestServer::start();
    let document = page(&server, "/openapi.json").expect(200).json();
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.keys().all(|it| !it.starts_with("/console")));
}

/// Returns the values of an attribute, such as `src="…"`.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    let values = html.split(&start).skip(1).map(|it| it.split('"').next().unwrap());
    values.collect()
}

#[test]
fn the_page_has_no_inline_code_and_every_file_that_it_names_exists() {
    let files = files();
    let html = String::from_utf8(files["index.html"].clone()).unwrap();
    let named: Vec<_> =
        attributes(&html, "src").into_iter().chain(attributes(&html, "href")).collect();
    assert!(3 <= named.len(), "{named:?}");
    for name in named {
        assert!(files.contains_key(name), "index.html names {name}");
    }
    for element in html.split('<').skip(1) {
        let (tag, content) = element.split_once('>').expect("a closed tag");
        let name = tag.split_whitespace().next().unwrap_or_default();
        assert_ne!(name, "style", "an inline style");
        assert!(name != "script" || content.trim().is_empty(), "an inline script");
        for attribute in tag.split_whitespace().skip(1) {
            assert!(!attribute.starts_with("on"), "a handler in <{tag}>");
            assert!(!attribute.starts_with("style"), "a style in <{tag}>");
        }
    }
    // A module names other modules by their relative addresses.
    for (name, text) in own_texts().filter(|it| it.0.rsplit('.').next() == Some("js")) {
        let imports = text.split("from '").skip(1).map(|it| it.split('\'').next().unwrap());
        for import in imports.filter(|it| it.starts_with('.')) {
            let wanted = import.trim_start_matches("./");
            assert!(files.contains_key(wanted), "{name} imports {import}");
        }
        for word in ["eval(", "new Function", "innerHTML", "document.write", "document.cookie"] {
            assert!(!text.contains(word), "{name} uses {word}");
        }
    }
}

#[test]
fn no_file_of_ours_names_another_origin() {
    for (name, text) in own_texts() {
        // The name of a format is no address that a browser asks.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for line in text.lines() {
            for scheme in ["http://", "https://", "ws://", "wss://", "url(//", "\"//", "'//"] {
                assert!(!line.contains(scheme), "{name}: {line}");
            }
        }
    }
}

#[test]
fn every_vendored_file_is_listed_with_its_checksum() {
    let files = files();
    let list = String::from_utf8(files["vendor/VENDOR.md"].clone()).unwrap();
    let rows = list.lines().filter(|it| it.starts_with("| `"));
    let mut listed = BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.iter().all(|it| !it.is_empty()), "{row}");
        let bare = |it: &str| it.trim_matches('`').to_owned();
        listed.insert(bare(cells[0]), bare(cells.last().unwrap()));
        // Code also has its name, its version and the package that it comes from.
        assert!(cells[0].contains("LICENSE") || cells.len() == 6, "{row}");
    }
    for (name, bytes) in &files {
        let Some(name) = name.strip_prefix("vendor/").filter(|it| *it != "VENDOR.md") else {
            continue;
        };
        let digest = Sha256::digest(bytes);
        let sum: String = digest.iter().map(|it| format!("{it:02x}")).collect();
        assert_eq!(listed.remove(name), Some(sum), "vendor/{name}");
    }
    assert!(listed.is_empty(), "listed, but missing: {listed:?}");
}
