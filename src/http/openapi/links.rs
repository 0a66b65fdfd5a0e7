//! Links from the answers that create or rotate an object to the operations on this object.

use utoipa::openapi::{Components, OpenApi, Ref, RefOr, link::LinkBuilder};

use super::{
    answers::{answer_schema, gives_key},
    operations::operations,
};

/// The schema of an object, and the address of one.
const OBJECTS: [(&str, &str); 2] =
    [("ApiKey", "/api/v1/api-keys/{id}"), ("Account", "/api/v1/accounts/{id}")];

pub(super) fn add(document: &mut OpenApi) {
    for (schema, address) in OBJECTS {
        let targets = operations_at(document, address);
        for (path, item) in &mut document.paths.paths {
            // The caller's own object needs no link.
            let sources = operations(item)
                .filter(|it| gives_key(path, it) && !path.contains("/self"))
                .filter(|it| answer_schema(it) == Some(schema));
            for source in sources {
                add_to_success(source, &targets);
            }
        }
        add_components(document.components.get_or_insert_default(), targets);
    }
}

/// Returns the identifiers of the operations on one object.
fn operations_at(document: &mut OpenApi, address: &str) -> Vec<String> {
    let paths = document.paths.paths.iter_mut();
    let items = paths.filter(|(path, _)| path.starts_with(address)).map(|(_, item)| item);
    items.flat_map(operations).filter_map(|it| it.operation_id.clone()).collect()
}

fn add_to_success(source: &mut utoipa::openapi::path::Operation, targets: &[String]) {
    for (status, response) in &mut source.responses.responses {
        let RefOr::T(response) = response else { continue };
        if status.starts_with('2') {
            let link = |it: &String| RefOr::Ref(Ref::new(format!("#/components/links/{it}")));
            response.links.extend(targets.iter().map(|it| (it.clone(), link(it))));
        }
    }
}

fn add_components(components: &mut Components, targets: Vec<String>) {
    for id in targets {
        let link = LinkBuilder::new()
            .operation_id(&*id)
            .parameter("id", "$response.body#/id")
            .description("The object of the answer, by its identifier.");
        components.links.insert(id, link.build().into());
    }
}
