//! The operations of the API, as its document lists them.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::Method, web};
use utoipa::openapi::{
    RefOr,
    path::{Operation, ParameterIn, PathItem},
};

use crate::{http::problem::Problem, service::Error};

/// Matches the path of a key, but is not one.
const NOT_AN_ID: &str = "/api/v1/api-keys/verify";

/// The methods of each path, with their query parameters. Distinguishes a wrong method from a wrong
/// address, and an unknown parameter from a parameter of the operation.
#[derive(Clone, Debug)]
pub struct RouteTable(Arc<[(Vec<Segment>, Vec<Route>)]>);

#[derive(Clone, Debug)]
struct Route {
    method: Method,
    /// The path as the document writes it, with placeholders.
    path: Arc<str>,
    parameters: Arc<[String]>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Segment {
    Fixed(String),
    Any,
}

impl RouteTable {
    pub fn of(document: &utoipa::openapi::OpenApi) -> Self {
        let mut rows: Vec<_> = document
            .paths
            .paths
            .iter()
            .map(|(path, item)| (segments(path), routes_of(path, item)))
            .collect();
        // Fixed words before placeholders, so that the first match is the best.
        rows.sort_by_key(|(path, _)| path.iter().filter(|it| **it == Segment::Any).count());
        Self(rows.into())
    }

    /// Returns the routes of every row that matches: `self` is an address of its own, and also matches
    /// an identifier.
    fn routes_at(&self, path: &str) -> impl Iterator<Item = &Route> {
        let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
        let fits = move |row: &[Segment]| {
            row.len() == parts.len()
                && row.iter().zip(&parts).all(|(segment, part)| match segment {
                    Segment::Fixed(word) => word == part,
                    Segment::Any => !part.is_empty(),
                })
        };
        let last = if path == NOT_AN_ID { 1 } else { usize::MAX };
        self.0.iter().filter(move |(row, _)| fits(row)).take(last).flat_map(|(_, routes)| routes)
    }

    /// Returns the methods of a path; `None` if no operation has this path.
    pub fn methods_at(&self, path: &str) -> Option<Vec<Method>> {
        let mut all: Vec<Method> = Vec::new();
        for Route { method, .. } in self.routes_at(path) {
            if !all.contains(method) {
                all.push(method.clone());
            }
        }
        (!all.is_empty()).then_some(all)
    }

    /// Returns the query parameters of this operation; `None` if there is no such operation.
    pub fn parameters(&self, method: &Method, path: &str) -> Option<Arc<[String]>> {
        self.route(method, path).map(|it| Arc::clone(&it.parameters))
    }

    /// Returns the path of this operation as the document writes it; `None` if there is no such operation.
    pub fn template(&self, method: &Method, path: &str) -> Option<&str> {
        self.route(method, path).map(|it| &*it.path)
    }

    fn route(&self, method: &Method, path: &str) -> Option<&Route> {
        self.routes_at(path).find(|it| it.method == *method)
    }
}

fn segments(path: &str) -> Vec<Segment> {
    let any = |it: &str| it.starts_with('{');
    path.split('/')
        .map(|it| if any(it) { Segment::Any } else { Segment::Fixed(it.to_owned()) })
        .collect()
}

fn routes_of(path: &str, item: &PathItem) -> Vec<Route> {
    let path: Arc<str> = path.into();
    [
        (&item.get, Method::GET),
        (&item.get, Method::HEAD), // Answered wherever GET is.
        (&item.post, Method::POST),
        (&item.put, Method::PUT),
        (&item.patch, Method::PATCH),
        (&item.delete, Method::DELETE),
    ]
    .into_iter()
    .filter_map(|(operation, method)| {
        let parameters = query_parameters(operation.as_ref()?);
        Some(Route { method, path: Arc::clone(&path), parameters })
    })
    .collect()
}

fn query_parameters(operation: &Operation) -> Arc<[String]> {
    let all = operation.parameters.iter().flatten();
    let named = all.filter_map(|it| match it {
        RefOr::T(it) => (it.parameter_in == ParameterIn::Query).then(|| it.name.clone()),
        RefOr::Ref(_) => None,
    });
    named.collect()
}

/// Answers a request that no route takes: 405 if its address has other methods, else 404.
pub async fn no_such_operation(
    req: HttpRequest,
    table: web::Data<RouteTable>,
) -> Result<HttpResponse, Problem> {
    let Some(methods) = table.methods_at(req.path()) else { return Err(Error::NotFound.into()) };
    let names: Vec<_> = methods.iter().map(Method::as_str).collect();
    Err(Problem::method_not_allowed(names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::openapi::document;

    #[test]
    fn a_path_is_known_by_its_best_match() {
        let table = RouteTable::of(&document());
        let names = |it: &str| Some(it.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let at = |path| {
            let methods = table.methods_at(path)?;
            Some(methods.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(at("/api/v1/api-keys/verify"), names("POST"));
        assert_eq!(at("/api/v1/api-keys/self"), names("GET HEAD PUT PATCH DELETE"));
        assert_eq!(at("/api/v1/api-keys/key_1"), names("GET HEAD PUT PATCH DELETE"));
        assert_eq!(at("/livez"), names("GET HEAD"));
        assert_eq!(at("/api/v1/api-keys/"), None);
        assert_eq!(at("/api/v1/nothing"), None);
    }
}
