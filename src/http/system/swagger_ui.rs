//! Swagger UI, from assets inside the binary.

use std::borrow::Cow;

use actix_web::{HttpResponse, dev::Service, http::header, web};
use utoipa_swagger_ui::Config;

use crate::{
    http::{
        problem::Problem,
        respond::InPieces,
        system::pages::{Page, redirect, resource},
    },
    service::Error,
};

/// Serves Swagger UI under `/docs/`.
pub fn docs(cfg: &mut web::ServiceConfig) {
    let config = Config::from("/openapi.json")
        .try_it_out_enabled(true)
        // A key would stay in the storage of the browser, where other programs can read it.
        .persist_authorization(false)
        .display_request_duration(true)
        .doc_expansion("list")
        .filter(true)
        // Swagger UI would call a validator on the internet.
        .validator_url("none");
    cfg.service(
        web::scope("/docs")
            .wrap_fn(|req, service| {
                Page::SWAGGER_UI.attach(&req);
                service.call(req)
            })
            .app_data(web::Data::new(config))
            .service(resource("").route(web::get().to(|| async { redirect("/docs/") })))
            .service(resource("/{path:.*}").route(web::get().to(asset))),
    );
}

/// Answers with a file of Swagger UI. Nearly all files lie in the binary and are not copied.
async fn asset(
    config: web::Data<Config<'static>>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let file = utoipa_swagger_ui::serve(&path, config.into_inner());
    let file = file.map_err(|_| Problem::internal())?.ok_or(Error::NotFound)?;
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => web::Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let mut response = HttpResponse::Ok();
    if file.gzpipped {
        response.insert_header(header::ContentEncoding::Gzip);
    }
    Ok(response.content_type(file.content_type).body(InPieces::of(bytes)))
}
