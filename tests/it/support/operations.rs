//! The operations of the API document, and a valid request to each.

use serde_json::{Value, json};

use super::Request;

/// A valid body for each operation that takes one; `$SCOPE` stands for a scope of the caller.
pub const BODIES: [(&str, &str); 17] = [
    ("createApiKey", r#"{"name": "x", "scopes": ["$SCOPE"]}"#),
    ("createAccountApiKey", r#"{"name": "x", "scopes": ["orders:read"]}"#),
    ("createConsoleLink", r#"{"expiresIn": 900}"#),
    ("createAccount", r#"{"name": "x"}"#),
    ("updateAccount", r#"{"name": "y"}"#),
    ("patchAccount", r#"{"name": "y"}"#),
    ("updateOwnAccount", r#"{"name": "y"}"#),
    ("patchOwnAccount", r#"{"name": "y"}"#),
    ("updateOwnApiKey", r#"{"name": "y"}"#),
    ("patchOwnApiKey", r#"{"name": "y"}"#),
    ("updateApiKey", r#"{"name": "y"}"#),
    ("patchApiKey", r#"{"name": "y"}"#),
    ("rotateApiKey", r#"{"gracePeriodSeconds": 60}"#),
    ("rotateOwnApiKey", r#"{"gracePeriodSeconds": 60}"#),
    ("verifyApiKey", r#"{"key": "x"}"#),
    ("reportLeakedKeys", r#"{"keys": ["x"]}"#),
    ("completeRotation", ""),
];

/// An operation of the API document.
#[derive(Clone)]
pub struct Operation {
    pub id: String,
    pub method: String,
    pub path: String,
    /// The required query parameters, from the document's examples; begins with a question mark.
    pub query: String,
    /// The names of all its query parameters.
    pub parameters: Vec<String>,
    pub takes_if_match: bool,
    pub has_body: bool,
    pub public: bool,
    /// One of these scopes is enough. If there is none, any accepted key may call the operation.
    pub any_of: Vec<String>,
}

/// Returns the operations of the document. Panics if the description of one is incomplete.
pub fn operations() -> Vec<Operation> {
    let document: Value =
        serde_json::from_str(&keyward::http::openapi::document_json()).expect("JSON");
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in ["get", "put", "post", "patch", "delete", "head", "options", "trace"] {
            let Some(operation) = item.get(method) else { continue };
            // OAuth has rules of its own; see `tokens.rs`.
            let forms = &operation["requestBody"]["content"]["application/x-www-form-urlencoded"];
            if !forms.is_null() {
                continue;
            }
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            let security = operation["security"].as_array();
            let security = security.unwrap_or_else(|| panic!("{id} has no security"));
            // OpenAPI cannot express that one of several scopes is enough.
            let scopes = operation["x-any-of-scopes"].as_array().into_iter().flatten();
            let parameters = || operation["parameters"].as_array().into_iter().flatten();
            let asked = || parameters().filter(|it| it["in"] == "query");
            let needed = asked().filter(|it| it["required"] == true);
            let needed: Vec<_> = needed
                .map(|it| format!("{}={}", it["name"].as_str().unwrap(), it["example"]))
                .collect();
            let mark = if needed.is_empty() { "" } else { "?" };
            found.push(Operation {
                query: format!("{mark}{}", needed.join("&")),
                parameters: asked().map(|it| it["name"].as_str().unwrap().to_owned()).collect(),
                takes_if_match: parameters().any(|it| it["name"] == "If-Match"),
                method: method.to_uppercase(),
                path: path.clone(),
                has_body: !operation["requestBody"].is_null(),
                public: security.is_empty() || security.contains(&json!({})),
                any_of: scopes.map(|it| it.as_str().expect("a name").to_owned()).collect(),
                id,
            });
        }
    }
    found
}

pub fn protected() -> Vec<Operation> {
    operations().into_iter().filter(|it| !it.public).collect()
}

impl Operation {
    /// Returns the request to this operation about these objects, without a key.
    pub fn request(&self, key: &str, account: &str, seq: &str, body: &str) -> Request {
        let id = if self.path.contains("/accounts/") { account } else { key };
        let path = self.path.replace("{id}", id).replace("{seq}", seq);
        assert!(!path.contains('{'), "{}: no value for {path}", self.id);
        let request = Request::new(&self.method, &format!("{path}{}", self.query));
        if body.is_empty() {
            return request;
        }
        request.header("Content-Type", "application/json").body(body)
    }

    pub fn body(&self, scope: &str) -> String {
        if !self.has_body {
            return String::new();
        }
        let row = BODIES.iter().find(|(id, _)| *id == self.id);
        let (_, body) = row.unwrap_or_else(|| panic!("{} needs a row in BODIES", self.id));
        body.replace("$SCOPE", scope)
    }
}
