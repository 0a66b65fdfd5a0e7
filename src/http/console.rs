//! The console: a page for people that manage keys. Static files, which use the API as any other client.

use std::sync::LazyLock;

use actix_web::{
    HttpResponse,
    dev::Service,
    http::header::{ETag, EntityTag, IfNoneMatch},
    web,
};
use base64ct::{Base64UrlUnpadded, Encoding};
use pbkdf2::sha2::{Digest, Sha256};

use crate::{
    http::{
        problem::Problem,
        respond::InPieces,
        system::pages::{Page, redirect, resource},
    },
    service::Error,
};

/// A file of the folder `console`, in the binary.
struct Asset {
    path: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($path:literal)+) => {
        [$(Asset { path: $path, bytes: include_bytes!(concat!("console/", $path)) }),+]
    };
}

/// Every file of the folder.
static ASSETS: &[Asset] = &assets! {
    "account.js"
    "account_actions.js"
    "account_form.js"
    "account_switch.js"
    "accounts.js"
    "api.js"
    "app.js"
    "audit.js"
    "audit_chain.js"
    "audit_export.js"
    "audit_filter.js"
    "audit_live.js"
    "audit_table.js"
    "console_link.js"
    "create_account.js"
    "create_key.js"
    "dialogs.js"
    "edit_key.js"
    "event_text.js"
    "events.js"
    "exchange.js"
    "expiry.js"
    "fields.js"
    "format.js"
    "hooks.js"
    "html.js"
    "icon.svg"
    "index.html"
    "keep.js"
    "key.js"
    "key_actions.js"
    "key_dialog.js"
    "key_form.js"
    "keys.css"
    "keys.js"
    "link_bar.js"
    "names.js"
    "own_key.js"
    "owner.js"
    "reports.css"
    "reveal.js"
    "revoke_key.js"
    "revoke_many.js"
    "rights.js"
    "rotate_key.js"
    "rotation_card.js"
    "route.js"
    "scope_picker.js"
    "session.js"
    "sign_in.js"
    "sse.js"
    "story.js"
    "style.css"
    "ui.js"
    "unused.js"
    "usage.js"
    "vendor/LICENSE-htm.txt"
    "vendor/LICENSE-pico.txt"
    "vendor/LICENSE-preact.txt"
    "vendor/VENDOR.md"
    "vendor/htm-preact.js"
    "vendor/htm.js"
    "vendor/pico.min.css"
};

/// A file with its entity tag.
#[derive(Clone)]
struct File {
    bytes: web::Bytes,
    tag: EntityTag,
}

/// The files, with entity tags that are computed once.
static FILES: LazyLock<Vec<(&str, File)>> = LazyLock::new(|| {
    let file = |it: &Asset| (it.path, File::of(web::Bytes::from_static(it.bytes)));
    ASSETS.iter().map(file).collect()
});

impl File {
    fn of(bytes: web::Bytes) -> Self {
        let tag = Base64UrlUnpadded::encode_string(&Sha256::digest(&bytes));
        Self { bytes, tag: EntityTag::new_strong(tag) }
    }

    fn at(path: &str) -> Option<Self> {
        let (path, file) = FILES.iter().find(|it| it.0 == path)?;
        Some(file.in_source(path).unwrap_or_else(|| file.clone()))
    }

    /// Returns the file as it is in the source now, so that a change needs no build. Only for developers.
    #[cfg(debug_assertions)]
    fn in_source(&self, path: &str) -> Option<Self> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/console/");
        let bytes = std::fs::read(format!("{folder}{path}")).ok()?;
        (bytes != self.bytes).then(|| Self::of(bytes.into()))
    }

    #[cfg(not(debug_assertions))]
    fn in_source(&self, _: &str) -> Option<Self> {
        None
    }
}

/// Serves the console under `/console/`.
pub fn pages(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::scope("/console")
            .wrap_fn(|req, service| {
                Page::CONSOLE.attach(&req);
                service.call(req)
            })
            .service(resource("").route(web::get().to(|| async { redirect("/console/") })))
            .service(resource("/{path:.*}").route(web::get().to(asset))),
    );
}

async fn asset(
    path: web::Path<String>,
    known: Option<web::Header<IfNoneMatch>>,
) -> Result<HttpResponse, Problem> {
    let path = if path.is_empty() { "index.html" } else { path.as_str() };
    let file = File::at(path).ok_or(Error::NotFound)?;
    let is_known = known.is_some_and(|it| match it.into_inner() {
        IfNoneMatch::Any => true,
        IfNoneMatch::Items(tags) => tags.iter().any(|it| it.weak_eq(&file.tag)),
    });
    if is_known {
        return Ok(HttpResponse::NotModified().insert_header(ETag(file.tag)).finish());
    }
    let response = HttpResponse::Ok()
        .content_type(content_type(path))
        .insert_header(ETag(file.tag))
        .body(InPieces::of(file.bytes));
    Ok(response)
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}
