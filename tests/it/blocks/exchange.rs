//! The exchange of a key for a token, as the page about tokens shows it.

use std::process::Command;

use serde_json::{Value, json};

use super::{block, page::all, shape};
use crate::support::{ISSUER, has, issuing};

#[test]
fn a_key_is_exchanged_and_refused_as_the_page_about_tokens_shows() {
    if !has(&["bash", "curl"]) {
        return;
    }
    let (server, key) = issuing(|_| ());
    let url = format!("http://{}", server.address);
    let command = block("docs/tokens.md", "The exchange", "text").text.replace(ISSUER, &url);
    let shown = all().into_iter().filter(|it| {
        it.page == "docs/tokens.md" && it.heading == "The exchange" && it.language == "json"
    });
    let shown: Vec<_> = shown.collect();
    assert_eq!(shown.len(), 2);
    let only = json!({ "name": "reads", "scopes": ["orders:read"] });
    let reader = server.create(&key.text, &only).text;
    for (scope, shown) in ["orders:read", "orders:write"].into_iter().zip(shown) {
        let command = command.replace("orders:read", scope);
        let mut shell = Command::new("bash");
        shell.args(["-c", &command]).env("KEY", &reader);
        let output = String::from_utf8(shell.output().unwrap().stdout).unwrap();
        let mut real: Value = serde_json::from_str(&output).unwrap();
        let expected = shape::read(&shown.text);
        if let Some(id) = expected.get("requestId") {
            real["requestId"] = id.clone();
        }
        assert_eq!(shape::differences("", &expected, &real), [""; 0], "{output}");
    }
}
