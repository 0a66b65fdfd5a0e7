//! The configuration file: a walk over its TOML that knows the line of everything.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::faults::{Fault, SettingSource, nearest, quoted};
use super::read::Raw;
use super::scopes::{self, ScopeSetting};
use super::{Config, ConfigFile, SETTINGS, Setting};

const SCOPES: &str = "scopes";
const EXTRA_SCOPES: &str = "extra_scopes";

/// Puts what `file` says into `config`; returns what is wrong with it, from top to bottom.
pub(super) fn apply(config: &mut Config, file: ConfigFile<'_>) -> Vec<Fault> {
    let mut walk = Walk { config, faults: Vec::new() };
    match DeTable::parse(file.text) {
        Ok(root) => walk.root(file.text, root.get_ref()),
        Err(err) => {
            let at = err.span().map_or(file.text.len(), |it| it.start);
            // Its first line; what may follow repeats the text of the file.
            let what = err.message().lines().next().unwrap_or_default();
            walk.fault(at, format!("not TOML: {what}"));
        }
    }

    let mut faults = walk.faults;
    faults.sort_by_key(|(at, _)| *at);
    let origin = |at| SettingSource::File { path: file.path.to_owned(), line: line(file.text, at) };
    faults.into_iter().map(|(at, message)| Fault { origin: origin(at), message }).collect()
}

struct Walk<'c> {
    config: &'c mut Config,
    /// Each with the offset of the byte that it is about.
    faults: Vec<(usize, String)>,
}

impl Walk<'_> {
    fn root(&mut self, text: &str, root: &DeTable<'_>) {
        let (mut scopes, mut extra_scopes) = (None, Vec::new());
        for (key, value) in root {
            let name: &str = key.get_ref();
            if name == SCOPES {
                scopes = self.scope_list(SCOPES, value);
            } else if name == EXTRA_SCOPES {
                extra_scopes = self.scope_list(EXTRA_SCOPES, value).unwrap_or_default();
            } else if SETTINGS.iter().any(|it| it.table == name) {
                self.table(name, value);
            } else {
                self.setting("", key.span().start, name, value);
            }
        }
        self.catalogue(text, scopes, extra_scopes);
    }

    fn table(&mut self, table: &str, value: &Spanned<DeValue<'_>>) {
        let Some(settings) = value.get_ref().as_table() else {
            let message = format!("`{table}` must be a table: write `[{table}]`");
            return self.fault(value.span().start, message);
        };
        for (key, value) in settings {
            self.setting(table, key.span().start, key.get_ref(), value);
        }
    }

    fn setting(&mut self, table: &str, at: usize, name: &str, value: &Spanned<DeValue<'_>>) {
        let Some(setting) = SETTINGS.iter().find(|it| it.table == table && it.name == name) else {
            let message = unknown(table, name, value.get_ref().is_table());
            return self.fault(at, message);
        };
        if let Err(why) = (setting.read)(self.config, Raw::Toml(value.get_ref())) {
            self.fault(value.span().start, format!("`{}` {why}", setting.path()));
        }
    }

    /// The scopes of one list, each with its place; none if it is no list.
    fn scope_list(
        &mut self,
        list: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Vec<(usize, ScopeSetting)>> {
        let message =
            || format!("`{list}` must be `[[{list}]]` sections with a `name` and a `description`");
        let Some(items) = value.get_ref().as_array() else {
            self.fault(value.span().start, message());
            return None;
        };
        let mut found = Vec::new();
        for item in items {
            let at = item.span().start;
            match item.get_ref().as_table() {
                Some(table) => found.extend(self.scope(list, at, table)),
                None => self.fault(at, message()),
            }
        }
        Some(found)
    }

    /// One scope, if it has at least a sound name: then its uniqueness can still be judged.
    fn scope(
        &mut self,
        list: &str,
        at: usize,
        table: &DeTable<'_>,
    ) -> Option<(usize, ScopeSetting)> {
        const FIELDS: [&str; 2] = ["name", "description"];
        for key in table.keys().filter(|it| !FIELDS.contains(&&**it.get_ref())) {
            let name: &str = key.get_ref();
            let known = match nearest(name, FIELDS.into_iter()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a scope has a `name` and a `description`".to_owned(),
            };
            self.fault(key.span().start, format!("unknown {} in `{list}`; {known}", quoted(name)));
        }
        let description = self.scope_text(list, at, table, FIELDS[1], scopes::check_description);
        let (at, name) = self.scope_text(list, at, table, FIELDS[0], scopes::check_name)?;
        let description = description.map(|(_, it)| it).unwrap_or_default();
        Some((at, ScopeSetting { name, description }))
    }

    fn scope_text(
        &mut self,
        list: &str,
        at: usize,
        table: &DeTable<'_>,
        field: &str,
        check: fn(&str) -> Result<(), String>,
    ) -> Option<(usize, String)> {
        let Some((_, value)) = table.iter().find(|(key, _)| key.get_ref() == field) else {
            self.fault(at, format!("`{list}` needs a `{field}`"));
            return None;
        };
        let at = value.span().start;
        let text = Raw::Toml(value.get_ref()).text("a string");
        match text.and_then(|it| check(it).map(|()| it.to_owned())) {
            Ok(text) => Some((at, text)),
            Err(why) => {
                self.fault(at, format!("`{list}.{field}` {why}"));
                None
            }
        }
    }

    /// Makes the catalogue: `replaced` or what ships, then `extra`.
    fn catalogue(
        &mut self,
        text: &str,
        replaced: Option<Vec<(usize, ScopeSetting)>>,
        extra: Vec<(usize, ScopeSetting)>,
    ) {
        if replaced.is_some() {
            self.config.scopes.clear();
        }
        let shipped = self.config.scopes.iter();
        let mut places: HashMap<String, String> = shipped
            .map(|it| (it.name.clone(), "ships with keyward; `[[scopes]]` replaces it".to_owned()))
            .collect();
        for (at, scope) in replaced.into_iter().flatten().chain(extra) {
            if let Some(place) = places.get(&scope.name) {
                self.fault(at, format!("there is already a scope `{}`: it {place}", scope.name));
                continue;
            }
            places.insert(scope.name.clone(), format!("stands on line {}", line(text, at)));
            self.config.scopes.push(scope);
            if self.config.scopes.len() == scopes::MOST + 1 {
                self.fault(at, format!("there may be at most {} scopes", scopes::MOST));
            }
        }
    }

    fn fault(&mut self, at: usize, message: String) {
        self.faults.push((at, message));
    }
}

/// The line, counted from one, on which the byte at offset `at` stands.
pub(super) fn line(text: &str, at: usize) -> usize {
    1 + text.get(..at).unwrap_or(text).matches('\n').count()
}

/// That nothing is called so, and what might have been meant: first here, then anywhere.
fn unknown(table: &str, name: &str, is_table: bool) -> String {
    let mut here: Vec<&str> =
        SETTINGS.iter().filter(|it| it.table == table).map(|it| it.name).collect();
    if table.is_empty() {
        let tables = SETTINGS.iter().map(|it| it.table).filter(|it| !it.is_empty());
        here.extend(tables.chain([SCOPES, EXTRA_SCOPES]));
        here.dedup();
    }
    let elsewhere = || SETTINGS.iter().find(|it| it.name == name).map(Setting::path);
    let near = nearest(name, here.iter().copied()).map(ToOwned::to_owned).or_else(elsewhere);

    let what = if is_table { "table" } else { "setting" };
    let place = if table.is_empty() { String::new() } else { format!(" in `[{table}]`") };
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", here.join(", ")),
    };
    format!("unknown {what} {}{place}; {hint}", quoted(name))
}
