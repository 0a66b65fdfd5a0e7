//! The file of the route policy: a `[[route]]` section for each route, in the order of precedence.
//!
//! This reads what is written, with the lines. [`Policy::compile`](crate::domain::policy::Policy)
//! checks what it means.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    ConfigFile,
    faults::{ConfigErrors, nearest, quoted},
    read::{self, Raw},
    toml_text::TomlText,
};
use crate::domain::policy::RouteRule;

const ROUTE: &str = "route";

/// One section of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteSetting {
    pub rule: RouteRule,
    /// The line where the section begins, counted from one.
    pub line: usize,
    /// The line of each field that was given.
    lines: Vec<(&'static str, usize)>,
}

const FIELDS: [&str; 8] =
    ["name", "hosts", "methods", "path", "scopes", "any_of", "public", "optional"];

impl RouteSetting {
    /// Reads every route of the file.
    ///
    /// # Errors
    ///
    /// Every fault of the file's form.
    pub fn read(file: ConfigFile<'_>) -> Result<Vec<Self>, ConfigErrors> {
        let mut text = TomlText::new(file);
        let routes = text.parse().map(|root| read_routes(&mut text, root.get_ref()));
        let faults = text.into_faults();
        if faults.is_empty() { Ok(routes.unwrap_or_default()) } else { Err(ConfigErrors(faults)) }
    }

    /// Returns the line of a field, or of the section if the field was not given.
    pub fn line_of(&self, field: &str) -> usize {
        self.lines.iter().find(|(it, _)| *it == field).map_or(self.line, |(_, line)| *line)
    }

    fn set(&mut self, field: &str, raw: Raw<'_>) -> Result<(), String> {
        let rule = &mut self.rule;
        match field {
            "name" => raw.text("a string")?.clone_into(&mut rule.name),
            "path" => raw.text("a string")?.clone_into(&mut rule.path),
            "hosts" => rule.hosts = read::texts(raw)?,
            "methods" => rule.methods = read::texts(raw)?,
            "scopes" => rule.scopes = Some(read::texts(raw)?),
            "any_of" => rule.any_of = Some(read::texts(raw)?),
            "optional" => rule.optional = read::boolean(raw)?,
            _ => rule.public = read::boolean(raw)?,
        }
        Ok(())
    }
}

fn read_routes(text: &mut TomlText<'_>, root: &DeTable<'_>) -> Vec<RouteSetting> {
    let mut routes = Vec::new();
    for (key, value) in root {
        let sections = value.get_ref().as_array();
        if let Some(sections) = sections.filter(|_| key.get_ref() == ROUTE) {
            routes.extend(sections.iter().map(|it| read_route(text, it)));
        } else {
            let name = quoted(key.get_ref());
            let message = format!("{name} is not known here; write `[[route]]` sections");
            text.fault(key.span().start, message);
        }
    }
    routes
}

fn read_route(text: &mut TomlText<'_>, section: &Spanned<DeValue<'_>>) -> RouteSetting {
    let at = section.span().start;
    let mut route = RouteSetting { line: text.line(at), ..RouteSetting::default() };
    let Some(table) = section.get_ref().as_table() else {
        text.fault(at, "`route` must be `[[route]]` sections".to_owned());
        return route;
    };
    for (key, value) in table {
        let given: &str = key.get_ref();
        let Some(field) = FIELDS.into_iter().find(|it| *it == given) else {
            let hint = nearest(given, FIELDS.into_iter())
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            text.fault(key.span().start, format!("unknown {}{hint}", quoted(given)));
            continue;
        };
        route.lines.push((field, text.line(key.span().start)));
        if let Err(why) = route.set(field, Raw::Toml(value.get_ref())) {
            text.fault(value.span().start, format!("`{field}` {why}"));
        }
    }
    for field in ["methods", "path"].into_iter().filter(|it| !table.contains_key(*it)) {
        text.fault(at, format!("a route needs `{field}`"));
    }
    route
}
