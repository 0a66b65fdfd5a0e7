//! The configuration file.

use std::collections::HashMap;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config, ConfigFile, SETTINGS, Setting,
    faults::{Fault, nearest, quoted},
    read::Raw,
    scopes::{self, ScopeSetting},
    toml_text::TomlText,
    webhooks::{self, WEBHOOKS},
};
use crate::domain::scope::Catalogue;

const SCOPES: &str = "scopes";
const EXTRA_SCOPES: &str = "extra_scopes";

/// Sets in `config` what `file` says, and returns the faults of the file from top to bottom.
pub(super) fn apply(config: &mut Config, file: ConfigFile<'_>) -> Vec<Fault> {
    let mut text = TomlText::new(file);
    if let Some(root) = text.parse() {
        Walk { config, text: &mut text }.root(root.get_ref());
    }
    text.into_faults()
}

struct Walk<'w, 't> {
    config: &'w mut Config,
    text: &'w mut TomlText<'t>,
}

/// One section of a scope list.
struct Section<'a> {
    list: &'static str,
    at: usize,
    table: &'a DeTable<'a>,
}

/// A scope with its offset in the file.
type PlacedScope = (usize, ScopeSetting);

impl Walk<'_, '_> {
    fn root(&mut self, root: &DeTable<'_>) {
        let (mut scopes, mut extra_scopes) = (None, Vec::new());
        for (key, value) in root {
            let name: &str = key.get_ref();
            if name == SCOPES {
                scopes = self.scope_list(SCOPES, value);
            } else if name == EXTRA_SCOPES {
                extra_scopes = self.scope_list(EXTRA_SCOPES, value).unwrap_or_default();
            } else if name == WEBHOOKS {
                self.config.webhooks = webhooks::read(self.text, value);
            } else if SETTINGS.iter().any(|it| it.table == name) {
                self.table(name, value);
            } else {
                self.setting("", key.span().start, name, value);
            }
        }
        self.catalogue(scopes, extra_scopes);
    }

    fn table(&mut self, table: &str, value: &Spanned<DeValue<'_>>) {
        let Some(settings) = value.get_ref().as_table() else {
            let message = format!("`{table}` must be a table: write `[{table}]`");
            return self.text.fault(value.span().start, message);
        };
        for (key, value) in settings {
            self.setting(table, key.span().start, key.get_ref(), value);
        }
    }

    fn setting(&mut self, table: &str, at: usize, name: &str, value: &Spanned<DeValue<'_>>) {
        let Some(setting) = SETTINGS.iter().find(|it| it.table == table && it.name == name) else {
            let message = unknown(table, name, value.get_ref().is_table());
            return self.text.fault(at, message);
        };
        if let Err(why) = (setting.read)(self.config, Raw::Toml(value.get_ref())) {
            self.text.fault(value.span().start, format!("`{}` {why}", setting.path()));
        }
    }

    /// Reads the scopes of one list. Returns `None` if the value is not a list.
    fn scope_list(
        &mut self,
        list: &'static str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Vec<PlacedScope>> {
        let message =
            || format!("`{list}` must be `[[{list}]]` sections with a `name` and a `description`");
        let Some(items) = value.get_ref().as_array() else {
            self.text.fault(value.span().start, message());
            return None;
        };
        let mut found = Vec::new();
        for item in items {
            let at = item.span().start;
            match item.get_ref().as_table() {
                Some(table) => found.extend(self.scope(&Section { list, at, table })),
                None => self.text.fault(at, message()),
            }
        }
        Some(found)
    }

    /// Reads one scope. A scope with a valid name and a wrong description is returned, so that the
    /// check for duplicates sees it.
    fn scope(&mut self, section: &Section<'_>) -> Option<PlacedScope> {
        const FIELDS: [&str; 2] = ["name", "description"];
        for key in section.table.keys().filter(|it| !FIELDS.contains(&&**it.get_ref())) {
            let name: &str = key.get_ref();
            let known = match nearest(name, FIELDS.into_iter()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a scope has a `name` and a `description`".to_owned(),
            };
            let message = format!("unknown {} in `{}`; {known}", quoted(name), section.list);
            self.text.fault(key.span().start, message);
        }
        let description = self.scope_text(section, FIELDS[1], scopes::check_description);
        let (at, name) = self.scope_text(section, FIELDS[0], scopes::check_name)?;
        let description = description.map(|(_, it)| it).unwrap_or_default();
        Some((at, ScopeSetting { name, description }))
    }

    fn scope_text(
        &mut self,
        Section { list, at, table }: &Section<'_>,
        field: &str,
        check: fn(&str) -> Result<(), String>,
    ) -> Option<(usize, String)> {
        let Some((_, value)) = table.iter().find(|(key, _)| key.get_ref() == field) else {
            self.text.fault(*at, format!("`{list}` needs a `{field}`"));
            return None;
        };
        let at = value.span().start;
        let text = Raw::Toml(value.get_ref()).text("a string");
        match text.and_then(|it| check(it).map(|()| it.to_owned())) {
            Ok(text) => Some((at, text)),
            Err(why) => {
                self.text.fault(at, format!("`{list}.{field}` {why}"));
                None
            }
        }
    }

    /// Sets the catalogue: `replaced`, or the default, and then `extra`.
    fn catalogue(&mut self, replaced: Option<Vec<PlacedScope>>, extra: Vec<PlacedScope>) {
        if replaced.is_some() {
            self.config.scopes.clear();
        }
        let shipped = self.config.scopes.iter();
        let mut places: HashMap<String, String> = shipped
            .map(|it| (it.name.clone(), "ships with keyward; `[[scopes]]` replaces it".to_owned()))
            .collect();
        for (at, scope) in replaced.into_iter().flatten().chain(extra) {
            if let Some(place) = places.get(&scope.name) {
                let message = format!("there is already a scope `{}`: it {place}", scope.name);
                self.text.fault(at, message);
                continue;
            }
            places.insert(scope.name.clone(), format!("stands on line {}", self.text.line(at)));
            self.config.scopes.push(scope);
            if self.config.scopes.len() == Catalogue::MAX_OWN + 1 {
                let message = format!("there may be at most {} scopes", Catalogue::MAX_OWN);
                self.text.fault(at, message);
            }
        }
    }
}

/// Returns the message about an unknown name. It suggests a similar name of the same table, or else
/// the same name in another table.
fn unknown(table: &str, name: &str, is_table: bool) -> String {
    let mut here: Vec<&str> =
        SETTINGS.iter().filter(|it| it.table == table).map(|it| it.name).collect();
    if table.is_empty() {
        let tables = SETTINGS.iter().map(|it| it.table).filter(|it| !it.is_empty());
        here.extend(tables.chain([SCOPES, EXTRA_SCOPES, WEBHOOKS]));
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
