//! `/openapi.json` and `/openapi.yaml`.

use actix_web::{HttpResponse, get, web};
use serde::Serialize;

use crate::http::respond::InPieces;

/// The API document as text, made once.
#[derive(Debug)]
pub struct Documents {
    json: web::Bytes,
    yaml: web::Bytes,
}

impl Documents {
    pub fn of(document: &utoipa::openapi::OpenApi) -> Self {
        Self { json: json_of(document).into(), yaml: yaml_of(document).into() }
    }
}

/// Get this document as JSON
///
/// Returns the API document in OpenAPI 3.1, generated from the code of this server.
#[utoipa::path(
    operation_id = "openapiJson",
    tag = "Server",
    security(()),
    responses(
        (status = 200, description = "The API document", body = HashMap<String, serde_json::Value>, content_type = "application/json", example = json!({"openapi": "3.1.0", "info": {"title": "keyward"}})),
    ),
)]
#[get("/openapi.json")]
pub async fn openapi_json(documents: web::Data<Documents>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(InPieces::of(documents.json.clone()))
}

/// Get this document as YAML
///
/// Returns the same document as `/openapi.json`, as `application/yaml`.
#[utoipa::path(
    operation_id = "openapiYaml",
    tag = "Server",
    security(()),
    responses(
        // Without the type of the body: generators warn about types that they do not know.
        (status = 200, description = "The API document in YAML"),
    ),
)]
#[get("/openapi.yaml")]
pub async fn openapi_yaml(documents: web::Data<Documents>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/yaml").body(InPieces::of(documents.yaml.clone()))
}

pub(in crate::http) fn json_of(document: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

pub(in crate::http) fn yaml_of(document: &utoipa::openapi::OpenApi) -> String {
    document.to_yaml().unwrap_or_default()
}
