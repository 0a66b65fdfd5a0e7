//! Strict input: every operation refuses input that its documentation does not name, even if its handler
//! reads no input.
//!
//! The parameters of each operation are known from the API document. A handler that takes a
//! [`RequestBody`] gets the faults of the query with the members of the body, and so reports all of them
//! at once and in the right order. A handler that only reads may take neither: if there is a fault, its
//! answer is replaced. A handler that changes something and takes no body always fails with 500.

use actix_web::{
    HttpMessage, HttpRequest,
    dev::ServiceRequest,
    http::{Method, StatusCode},
};

use crate::http::{
    problem::Problem,
    request::{
        body::{Body, RequestBody},
        query::KnownParameters,
    },
    route_table::RouteTable,
};

/// Finds the parameters of the operation before the handler runs. Costs nothing if there is no query.
pub(in crate::http) fn examine(req: &ServiceRequest, table: &RouteTable) {
    if !req.query_string().is_empty()
        && let Some(parameters) = table.parameters(req.method(), req.path())
    {
        req.extensions_mut().insert(KnownParameters(parameters));
    }
}

/// Returns why a successful answer must be replaced: the request has input that its handler did not
/// read.
pub(in crate::http) fn leftover(req: &HttpRequest, status: StatusCode) -> Option<Problem> {
    if !status.is_success() {
        return None;
    }
    let unread = req.extensions().contains::<Body>();
    let body = RequestBody::left_in(req);
    if *req.method() == Method::GET {
        let refused = body.none().and_then(|it| it.finish(Some(())).map_err(Problem::invalid));
        return refused.err();
    }
    if unread {
        tracing::error!(
            route = req.match_pattern(),
            "the handler of this operation does not read its input"
        );
        return Some(Problem::internal());
    }
    None
}
