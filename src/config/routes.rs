//! The route policy as a file: a `[[route]]` section for each route, the first that matches first.
//!
//! This says what is written and in which line; what it means, and whether it makes sense, is not
//! known here.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigFile;
use super::faults::{ConfigErrors, Fault, SettingSource, nearest, quoted};
use super::file::line;
use super::read::{self, Raw};

const ROUTE: &str = "route";

/// One section of the file. What is absent is empty, or `None` where absent and empty differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteSetting {
    pub name: String,
    pub hosts: Vec<String>,
    pub methods: Vec<String>,
    pub path: String,
    pub scopes: Option<Vec<String>>,
    pub any_of: Option<Vec<String>>,
    pub public: bool,
    pub optional: bool,
    /// Where the section begins, counted from one.
    pub line: usize,
    /// The line of each field that was given.
    lines: Vec<(&'static str, usize)>,
}

const FIELDS: [&str; 8] =
    ["name", "hosts", "methods", "path", "scopes", "any_of", "public", "optional"];

impl RouteSetting {
    /// Every route of the file, or everything that is wrong with how they are written.
    pub fn read(file: ConfigFile<'_>) -> Result<Vec<Self>, ConfigErrors> {
        let mut reader = Reader { text: file.text, faults: Vec::new() };
        let routes = match DeTable::parse(file.text) {
            Ok(root) => reader.root(root.get_ref()),
            Err(err) => {
                let at = err.span().map_or(file.text.len(), |it| it.start);
                let what = err.message().lines().next().unwrap_or_default();
                reader.fault(at, format!("not TOML: {what}"));
                Vec::new()
            }
        };
        if reader.faults.is_empty() {
            return Ok(routes);
        }
        let mut faults = reader.faults;
        faults.sort_by_key(|(line, _)| *line);
        let origin = |line| SettingSource::File { path: file.path.to_owned(), line };
        let fault = |(line, message)| Fault { origin: origin(line), message };
        Err(ConfigErrors(faults.into_iter().map(fault).collect()))
    }

    /// The line of a field, or of the section if the field was not given.
    pub fn line_of(&self, field: &str) -> usize {
        self.lines.iter().find(|(it, _)| *it == field).map_or(self.line, |(_, line)| *line)
    }
}

struct Reader<'t> {
    text: &'t str,
    /// Each with its line.
    faults: Vec<(usize, String)>,
}

impl Reader<'_> {
    fn root(&mut self, root: &DeTable<'_>) -> Vec<RouteSetting> {
        let mut routes = Vec::new();
        for (key, value) in root {
            let sections = value.get_ref().as_array();
            match sections.filter(|_| key.get_ref() == ROUTE) {
                Some(sections) => routes.extend(sections.iter().map(|it| self.route(it))),
                None => self.fault(
                    key.span().start,
                    format!(
                        "{} is not known here; write `[[route]]` sections",
                        quoted(key.get_ref())
                    ),
                ),
            }
        }
        routes
    }

    fn route(&mut self, section: &Spanned<DeValue<'_>>) -> RouteSetting {
        let at = section.span().start;
        let mut route = RouteSetting { line: line(self.text, at), ..RouteSetting::default() };
        let Some(table) = section.get_ref().as_table() else {
            self.fault(at, "`route` must be `[[route]]` sections".to_owned());
            return route;
        };
        for (key, value) in table {
            let given: &str = key.get_ref();
            let Some(field) = FIELDS.into_iter().find(|it| *it == given) else {
                let hint = nearest(given, FIELDS.into_iter())
                    .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                self.fault(key.span().start, format!("unknown {}{hint}", quoted(given)));
                continue;
            };
            route.lines.push((field, line(self.text, key.span().start)));
            if let Err(why) = route.set(field, Raw::Toml(value.get_ref())) {
                self.fault(value.span().start, format!("`{field}` {why}"));
            }
        }
        for field in ["methods", "path"].into_iter().filter(|it| !table.contains_key(*it)) {
            self.fault(at, format!("a route needs `{field}`"));
        }
        route
    }

    fn fault(&mut self, at: usize, message: String) {
        self.faults.push((line(self.text, at), message));
    }
}

impl RouteSetting {
    fn set(&mut self, field: &str, raw: Raw<'_>) -> Result<(), String> {
        match field {
            "name" => raw.text("a string")?.clone_into(&mut self.name),
            "path" => raw.text("a string")?.clone_into(&mut self.path),
            "hosts" => self.hosts = read::texts(raw)?,
            "methods" => self.methods = read::texts(raw)?,
            "scopes" => self.scopes = Some(read::texts(raw)?),
            "any_of" => self.any_of = Some(read::texts(raw)?),
            "optional" => self.optional = read::boolean(raw)?,
            _ => self.public = read::boolean(raw)?,
        }
        Ok(())
    }
}
