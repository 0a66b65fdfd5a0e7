//! `/scopes`: the catalogue of scopes.

use actix_web::{HttpResponse, get, web};

use crate::{
    http::{
        authn::{AnyKey, Caller},
        wire::{ScopeBody, ScopeListBody},
    },
    service::Keyward,
};

/// List the scopes
///
/// Returns the catalogue of scopes: first those of your API, then those of keyward itself.
#[utoipa::path(
    operation_id = "listScopes",
    tag = "Verification",
    security(("ApiKeyAuth" = [])),
    responses(
        (status = 200, description = "All scopes", body = ScopeListBody),
    ),
)]
#[get("/scopes")]
pub async fn list_scopes(app: web::Data<Keyward>, _caller: Caller<AnyKey>) -> HttpResponse {
    let entries = app.catalogue().entries().iter();
    let data = entries.map(|it| ScopeBody {
        name: it.scope.as_str().to_owned(),
        description: it.description.clone(),
        reserved: it.reserved,
    });
    HttpResponse::Ok().json(ScopeListBody { data: data.collect() })
}
