//! The blocks of code in the pages of the repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A fenced block of code.
#[derive(Debug)]
pub struct Block {
    /// The path of its page, from the root of the repository.
    pub page: String,
    /// The number of its first line, the fence.
    pub line: usize,
    /// The nearest heading above it.
    pub heading: String,
    /// The word after the fence, which may be missing.
    pub language: String,
    pub text: String,
}

impl Block {
    /// Names the block in messages.
    pub fn place(&self) -> String {
        let Self { page, line, heading, language, .. } = self;
        format!("{page}:{line}: the block \"{language}\" below \"{heading}\"")
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the blocks of every page, in the order of each page.
pub fn all() -> Vec<Block> {
    let mut pages = Vec::new();
    collect(root(), &mut pages);
    let name = |it: &Path| it.strip_prefix(root()).unwrap().display().to_string();
    pages.sort();
    pages.iter().flat_map(|it| blocks(&name(it), &fs::read_to_string(it).unwrap())).collect()
}

fn collect(directory: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let made = ["target", "node_modules", "keyward-data", ".git"].contains(&name);
        if path.is_dir() && !made {
            collect(&path, pages);
        } else if path.extension().is_some_and(|it| it == "md") && path.is_file() {
            pages.push(path);
        }
    }
}

/// Reads the blocks of a page (section 4.5 of `CommonMark`).
fn blocks(page: &str, text: &str) -> Vec<Block> {
    let (mut found, mut heading) = (Vec::<Block>::new(), String::new());
    let (mut fence, mut is_after_blank) = (None::<String>, false);
    for (number, line) in text.lines().enumerate() {
        let bare = line.trim_start();
        let ticks = bare.len() - bare.trim_start_matches(['`', '~']).len();
        match &fence {
            Some(it) if bare.trim_end() == it => fence = None,
            Some(_) => {
                let block = found.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            None if 3 <= ticks => {
                fence = Some(bare[..ticks].to_owned());
                let language = bare[ticks..].trim().to_owned();
                let (page, heading) = (page.to_owned(), heading.clone());
                found.push(Block {
                    page,
                    line: number + 1,
                    heading,
                    language,
                    text: String::new(),
                });
            }
            // Such a block has no language, so it would escape the tests.
            None if line.starts_with("    ") && is_after_blank => {
                panic!("{page}:{}: indented code; put it between ```", number + 1)
            }
            None if line.starts_with('#') => {
                line.trim_start_matches('#').trim().clone_into(&mut heading);
            }
            None => {}
        }
        is_after_blank = line.trim().is_empty();
    }
    assert!(fence.is_none(), "{page}: its last block has no end");
    found
}

#[test]
fn a_page_is_divided_into_its_blocks() {
    let text =
        "# A\n\n```sh\n# no heading\nrun\n```\n\n## B\n  ~~~\nx\n```\n  ~~~\n````json\n```\n````\n";
    let found = blocks("p.md", text);
    let found = found.iter().map(|it| (it.line, &*it.heading, &*it.language, &*it.text));
    let expected = [
        (3, "A", "sh", "# no heading\nrun\n"),
        (9, "B", "", "x\n```\n"),
        (13, "B", "json", "```\n"),
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected);
}
