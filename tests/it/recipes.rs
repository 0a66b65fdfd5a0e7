//! The recipes for contributors name files that exist.

use std::{fs, path::Path};

const RECIPES: &str = include_str!("../../docs/contributing.md");

/// The files and folders of the repository that a text names between back quotes.
fn named(text: &str) -> Vec<&str> {
    let roots = ["src/", "tests/", "docs/", "packaging/", "openapi/"];
    let quoted = text.split('`').skip(1).step_by(2);
    // A name with `…` or a capital letter stands for several files.
    let is_one = |it: &&str| !it.contains(['…', ' ']) && !it.contains(char::is_uppercase);
    quoted.filter(|it| roots.iter().any(|root| it.starts_with(root))).filter(is_one).collect()
}

#[test]
fn every_file_in_a_recipe_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = named(RECIPES);
    assert!(40 < named.len(), "{named:?}");
    for path in named {
        assert!(fs::exists(root.join(path)).unwrap(), "docs/contributing.md: no file {path}");
    }
}

#[test]
fn files_are_found_between_back_quotes() {
    assert_eq!(named("`src/a.rs` and `b`, src/c.rs, `docs/…`, `src/NAME.rs`"), ["src/a.rs"]);
}
