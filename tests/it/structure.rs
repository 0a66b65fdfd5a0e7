//! The structure of the source: which file uses which other file.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
};

use syn::{
    Attribute, File, Item, ItemMod, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};

/// The path of a module or an item, from the crate on.
type Names = Vec<String>;
/// Each file with the files that define what it uses.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Every module of the crate. The crate itself has an empty path.
struct Modules(BTreeMap<Names, Module>);

/// A source file without its tests.
struct Module {
    path: String,
    defines: BTreeSet<String>,
    /// The items that the file only re-exports, each with the path of its origin.
    hands_on: HashMap<String, Names>,
    uses: Vec<Names>,
}

/// Collects the paths that a file names, as they are written.
#[derive(Default)]
struct Paths {
    uses: Vec<Names>,
    hands_on: Vec<(String, Names)>,
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|it| {
        it.path().is_ident("cfg")
            && it.parse_args::<syn::Path>().is_ok_and(|it| it.is_ident("test"))
    })
}

impl<'a> Visit<'a> for Paths {
    fn visit_item_mod(&mut self, it: &'a ItemMod) {
        if !is_test(&it.attrs) {
            visit::visit_item_mod(self, it);
        }
    }

    fn visit_item_use(&mut self, it: &'a ItemUse) {
        let mut found = Vec::new();
        expand(&it.tree, &mut Vec::new(), &mut found);
        match it.vis {
            Visibility::Inherited => self.uses.extend(found.into_iter().map(|(_, names)| names)),
            _ => self.hands_on.extend(found),
        }
    }

    /// The path in `pub(in path)` names no item that is used.
    fn visit_visibility(&mut self, _: &'a Visibility) {}

    fn visit_path(&mut self, it: &'a syn::Path) {
        self.uses.push(it.segments.iter().map(|it| it.ident.to_string()).collect());
        visit::visit_path(self, it);
    }
}

/// Collects every path of a `use`, with the name that the item has in this file.
fn expand(tree: &UseTree, way: &mut Names, found: &mut Vec<(String, Names)>) {
    match tree {
        UseTree::Path(it) => {
            way.push(it.ident.to_string());
            expand(&it.tree, way, found);
            way.pop();
        }
        UseTree::Group(it) => it.items.iter().for_each(|it| expand(it, way, found)),
        UseTree::Name(it) => {
            let names = [&way[..], &[it.ident.to_string()]].concat();
            found.push((it.ident.to_string(), names));
        }
        UseTree::Rename(it) => {
            let names = [&way[..], &[it.ident.to_string()]].concat();
            found.push((it.rename.to_string(), names));
        }
        UseTree::Glob(_) => found.push(("*".to_owned(), way.clone())),
    }
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(it) => &it.ident,
        Item::Enum(it) => &it.ident,
        Item::Fn(it) => &it.sig.ident,
        Item::Macro(it) => it.ident.as_ref()?,
        Item::Static(it) => &it.ident,
        Item::Struct(it) => &it.ident,
        Item::Trait(it) => &it.ident,
        Item::Type(it) => &it.ident,
        _ => return None,
    };
    Some(name.to_string())
}

impl Modules {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let (mut files, mut dirs) = (Vec::new(), vec![root.clone()]);
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let file = entry.unwrap().path();
                match file.strip_prefix(&root).unwrap().to_str().unwrap() {
                    _ if file.is_dir() => dirs.push(file),
                    path if path.ends_with("tests.rs") || path.contains("/tests/") => (),
                    path => {
                        if let Some(name) = path.strip_suffix(".rs") {
                            let text = fs::read_to_string(&file).unwrap();
                            files.push((name.to_owned(), syn::parse_file(&text).unwrap()));
                        }
                    }
                }
            }
        }
        Self::of(files)
    }

    /// Builds the modules from files, each with its path below `src`, without `.rs`.
    fn of(files: Vec<(String, File)>) -> Self {
        let names = |path: &str| match path {
            "lib" => Names::new(),
            _ => path.split('/').map(str::to_owned).collect(),
        };
        let all: BTreeSet<Names> = files.iter().map(|(path, _)| names(path)).collect();
        let module = |(path, file): (String, File)| {
            let names = names(&path);
            let mut paths = Paths::default();
            paths.visit_file(&file);
            let items = file.items.iter().filter_map(name_of);
            let uses = paths.uses.iter().filter_map(|it| absolute(&all, &names, it));
            let hands_on = paths.hands_on.into_iter();
            let hands_on =
                hands_on.filter_map(|(it, way)| Some((it, absolute(&all, &names, &way)?)));
            let module = Module {
                path: format!("{path}.rs"),
                defines: items.collect(),
                hands_on: hands_on.collect(),
                uses: uses.collect(),
            };
            (names, module)
        };
        Self(files.into_iter().map(module).collect())
    }

    /// Returns the file that defines the item or module at the end of this path. Skips files that
    /// only re-export the item.
    fn defining(&self, way: &[String]) -> Option<&str> {
        let mut way = way.to_vec();
        for _ in 0..8 {
            let cut = (0..=way.len()).rev().find(|it| self.0.contains_key(&way[..*it]))?;
            let module = &self.0[&way[..cut]];
            match way.get(cut) {
                Some(item) if !module.defines.contains(item) => {
                    way = [module.hands_on.get(item)?, &way[cut + 1..]].concat();
                }
                _ => return Some(&module.path),
            }
        }
        None
    }

    fn arrows(&self) -> Arrows {
        let arrow = |module: &Module| {
            let to = module.uses.iter().filter_map(|it| self.defining(it));
            let to = to.filter(|it| *it != module.path).map(str::to_owned);
            (module.path.clone(), to.collect())
        };
        self.0.values().map(arrow).collect()
    }
}

/// Returns the path from the crate on, if it stays within the crate.
fn absolute(all: &BTreeSet<Names>, module: &[String], written: &[String]) -> Option<Names> {
    let written = written.strip_suffix(&["self".to_owned()]).unwrap_or(written);
    let supers = written.iter().take_while(|it| *it == "super").count();
    let rest = &written[supers..];
    let start = match rest.first().map(String::as_str) {
        _ if 0 < supers => &module[..module.len().checked_sub(supers)?],
        Some("crate" | "keyward") => return Some(rest[1..].to_vec()),
        Some("self") => return Some([module, &rest[1..]].concat()),
        Some(first) if all.contains(&[module, &[first.to_owned()]].concat()) => module,
        _ => return None,
    };
    Some([start, rest].concat())
}

/// Returns the groups of files that depend on each other in a circle.
fn circles(arrows: &Arrows) -> BTreeSet<Vec<&String>> {
    let reached = |start: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![start.clone()]);
        while let Some(file) = next.pop() {
            let to = arrows[&file].iter();
            next.extend(to.filter(|it| seen.insert((*it).clone())).cloned());
        }
        seen
    };
    let reached: BTreeMap<_, _> = arrows.keys().map(|it| (it, reached(it))).collect();
    let circle = |file: &String| -> Vec<_> {
        let mut others = reached.iter();
        let mutual =
            others.by_ref().filter(|(it, to)| to.contains(file) && reached[file].contains(**it));
        mutual.map(|(it, _)| *it).collect()
    };
    arrows.keys().map(circle).filter(|it| !it.is_empty()).collect()
}

/// Returns whether `to` is the module file of a folder above `from`.
fn is_above(to: &str, from: &str) -> bool {
    let folder = to.strip_suffix(".rs").and_then(|it| from.strip_prefix(it));
    folder.is_some_and(|it| it.starts_with('/'))
}

#[test]
fn no_files_depend_on_each_other_in_a_circle() {
    let mut arrows = Modules::read().arrows();
    assert!(500 < arrows.values().map(BTreeSet::len).sum::<usize>(), "dependencies are found");
    // A submodule may use a type of its parent module.
    for (from, needed) in &mut arrows {
        needed.retain(|to| !is_above(to, from));
    }
    let mut told = Vec::new();
    for circle in circles(&arrows) {
        for from in &circle {
            let to: Vec<_> = arrows[*from].iter().filter(|it| circle.contains(it)).collect();
            told.push(format!("{from} needs {to:?}"));
        }
        told.push("-".to_owned());
    }
    assert!(told.is_empty(), "{told:#?}");
}

#[test]
fn files_of_http_use_almost_nothing_from_the_files_above_them() {
    let arrows = Modules::read().arrows();
    let mut upward = Vec::new();
    for (from, needed) in arrows.iter().filter(|(it, _)| it.starts_with("http/")) {
        let above = needed.iter().filter(|to| is_above(to, from));
        upward.extend(above.map(|to| format!("{from} takes from {to}")));
    }
    assert!(upward.len() <= 2, "{upward:#?}");
}

#[test]
fn a_folder_has_its_module_file_beside_it() {
    for module in Modules::read().0.values() {
        assert!(!module.path.ends_with("mod.rs"), "{}: name it after its folder", module.path);
    }
}

#[test]
fn dependencies_are_found_in_every_way_of_naming_an_item() {
    let file = |path: &str, text: &str| (path.to_owned(), syn::parse_file(text).unwrap());
    let files = |user: &str| {
        Modules::of(vec![
            file("lib", "pub mod a; pub mod b;"),
            file("a", "pub mod c; mod d; pub use self::{c::C, d::D as E};"),
            file("a/c", "pub struct C; pub fn c() {}"),
            file("a/d", "pub struct D;"),
            file("b", user),
        ])
    };
    for (user, expected) in [
        ("use crate::a::C;", vec!["a/c.rs"]),
        ("use crate::{a::{self, E}, b};", vec!["a.rs", "a/d.rs"]),
        ("fn b() -> Vec<super::a::C> { crate::a::c::c() }", vec!["a/c.rs"]),
        ("#[cfg(test)] mod tests { use crate::a::C; }", vec![]),
        ("pub use crate::a::C;", vec![]),
        ("use std::fs; fn b() { fs::a() }", vec![]),
    ] {
        let arrows = files(user).arrows();
        assert_eq!(arrows["b.rs"].iter().collect::<Vec<_>>(), expected, "{user}");
    }
    let circle = files("use crate::a::C;").arrows();
    assert!(circles(&circle).is_empty());
}
