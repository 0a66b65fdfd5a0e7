//! Answers that follow from an operation: refusals, and the headers of every answer. Handlers do not
//! declare them.

use utoipa::openapi::{
    Components, Content, Header, Ref, RefOr, Response, Type,
    path::Operation,
    schema::{Object, SchemaType},
};

const REQUEST_ID: &str = "X-Request-Id";
const RETRY_AFTER: &str = "Retry-After";
const CACHE_CONTROL: &str = "Cache-Control";
const PROBLEM: &str = "application/problem+json";
const EVENT_STREAM: &str = "text/event-stream";

/// Every header of an answer.
const HEADERS: [(&str, Type, &str); 9] = [
    (REQUEST_ID, Type::String, "The identifier of the request, as in the log and in `requestId`."),
    (
        RETRY_AFTER,
        Type::Integer,
        "How many seconds to wait before the next attempt. Present with 429, with 503, and with each \
         409 that ends by itself.",
    ),
    (
        "WWW-Authenticate",
        Type::String,
        "The name of the header that carries the key. Present with 401.",
    ),
    ("Allow", Type::String, "The methods of this address. Present with 405."),
    (
        "Link",
        Type::String,
        "The address of the next page (`rel=\"next\"`). Absent on the last page.",
    ),
    ("ETag", Type::String, "The revision of the key or account, for `If-Match`."),
    (CACHE_CONTROL, Type::String, "How long a cache may keep the answer, in seconds (`max-age`)."),
    ("Location", Type::String, "The address of the new key or account."),
    (
        "Idempotency-Replayed",
        Type::String,
        "`true` if this repeats the answer to an earlier request with the same `Idempotency-Key`.",
    ),
];

/// Adds the refusals, and headers to all answers.
pub(super) fn add(path: &str, operation: &mut Operation) {
    let gives_key = gives_key(path, operation);
    let is_page = returns_page(operation);
    let is_cacheable = path.starts_with("/.well-known/") || path.starts_with("/token-status/");
    let has_revision = matches!(answer_schema(operation), Some("ApiKey" | "Account"));
    let responses = &mut operation.responses.responses;
    for (status, response) in &mut *responses {
        let RefOr::T(response) = response else { continue };
        let is_good = status.starts_with('2');
        if let Some(RefOr::T(stream)) = response.content.get_mut(EVENT_STREAM) {
            // Tools take it as the schema of one event. OpenAPI can tell the two apart from version 3.2 on.
            stream.schema = None;
        }
        let headers = [
            (REQUEST_ID, true),
            (RETRY_AFTER, matches!(&**status, "503" | "4XX" | "5XX")),
            ("WWW-Authenticate", status == "4XX"),
            ("Allow", status == "4XX"),
            ("Link", is_good && is_page),
            ("ETag", is_good && has_revision),
            (CACHE_CONTROL, is_good && is_cacheable),
            ("Location", status == "201"),
            ("Idempotency-Replayed", is_good && gives_key),
        ];
        let given = headers.into_iter().filter(|(_, applies)| *applies);
        response.headers.extend(given.map(|(name, _)| (name.to_owned(), header(name))));
    }
    let mut parameters = operation.parameters.iter().flatten();
    let conditional = parameters.any(|it| matches!(it, RefOr::T(it) if it.name == "If-Match"));
    let changed = conditional.then_some(("412", "Changed"));
    for (status, name) in changed.into_iter().chain([("4XX", "Refused"), ("5XX", "Failed")]) {
        let shared = Ref::from_response_name(name).into();
        // An operation whose refusals have a form of its own also answers as all others do: 405.
        match responses.entry(status.to_owned()).or_insert(shared) {
            RefOr::T(own) => {
                own.content.insert(PROBLEM.to_owned(), problem_content().into());
            }
            RefOr::Ref(_) => (),
        }
    }
}

/// Adds what the answers of [`add`] refer to.
pub(super) fn add_components(components: &mut Components) {
    for (name, kind, description) in HEADERS {
        let mut header = Header::new(Object::with_type(SchemaType::new(kind)));
        header.description = Some(description.to_owned());
        components.headers.insert(name.to_owned(), header.into());
    }
    components.responses.extend([
        problem(
            "Changed",
            "The key or account has another `ETag` than `If-Match` names. Nothing is changed.",
            &[REQUEST_ID],
        ),
        problem(
            "Refused",
            "The request is refused. `code` says why.",
            &[REQUEST_ID, RETRY_AFTER, "WWW-Authenticate", "Allow"],
        ),
        problem(
            "Failed",
            "The server cannot answer now: 503 while its storage or a limit prevents it, 500 after \
             an error of its own.",
            &[REQUEST_ID, RETRY_AFTER],
        ),
    ]);
}

/// Whether the operation returns a page of a list.
pub(super) fn returns_page(operation: &Operation) -> bool {
    // The list of scopes has one page, always.
    answer_schema(operation).is_some_and(|it| it.ends_with("List") && it != "ScopeList")
}

/// Whether the operation makes a key or an account.
pub(super) fn creates(operation: &Operation) -> bool {
    operation.responses.responses.contains_key("201")
}

/// Whether the answer holds a full key.
pub(super) fn gives_key(path: &str, operation: &Operation) -> bool {
    creates(operation) || path.ends_with("/rotate")
}

/// Returns the name of the schema of the successful answer.
pub(super) fn answer_schema(operation: &Operation) -> Option<&str> {
    let mut answers = operation.responses.responses.iter();
    let (_, answer) = answers.find(|(status, _)| status.starts_with('2'))?;
    let RefOr::T(answer) = answer else { return None };
    let RefOr::T(content) = answer.content.get("application/json")? else { return None };
    let Some(RefOr::Ref(schema)) = &content.schema else { return None };
    schema.ref_location.rsplit('/').next()
}

fn header(name: &str) -> RefOr<Header> {
    RefOr::Ref(Ref::new(format!("#/components/headers/{name}")))
}

fn problem_content() -> Content {
    Content::new(Some(Ref::from_schema_name("Problem")))
}

fn problem(name: &str, description: &str, headers: &[&str]) -> (String, RefOr<Response>) {
    let mut response = Response::new(description);
    response.content.insert(PROBLEM.to_owned(), problem_content().into());
    response.headers = headers.iter().map(|it| ((*it).to_owned(), header(it))).collect();
    (name.to_owned(), response.into())
}
