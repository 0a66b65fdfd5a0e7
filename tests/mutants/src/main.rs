//! Writes the mutants that `cargo mutants --list --json` names into one source tree, each behind a
//! switch. So one build tests them all: `MUTANT=7` in the environment turns mutant 7 on.
//!
//! `keyward-mutants TREE MUTANTS.json [REFUSED…]` leaves out the refused numbers, which do not
//! compile. It prints the number of each mutant that it wrote.

use std::{
    collections::{HashMap, HashSet},
    env, fs,
    path::Path,
};

use proc_macro2::{LineColumn, Span};
use serde_json::Value;
use syn::{
    Arm, BinOp, Block, Expr, ExprBinary, ExprConst, ExprStruct, ExprUnary, File, ImplItemConst,
    ImplItemFn, ItemConst, ItemFn, ItemMacro, ItemStatic, Signature, TraitItemFn,
    spanned::Spanned,
    visit::{self, Visit},
};

/// The module that reads the switch, and records which mutants a test reaches.
const SWITCH: &str = r#"
//! The switches of the mutants.
#![allow(warnings, clippy::all, clippy::pedantic)]
use std::{env, fs::OpenOptions, io::Write, sync::{LazyLock, atomic::{AtomicBool, Ordering}}};

static ACTIVE: LazyLock<usize> =
    LazyLock::new(|| env::var("MUTANT").ok().and_then(|it| it.parse().ok()).unwrap_or(usize::MAX));
static REACHED: LazyLock<Option<(String, Vec<AtomicBool>)>> = LazyLock::new(|| {
    let path = env::var("MUTANTS_REACHED").ok()?;
    Some((path, (0..COUNT).map(|_| AtomicBool::new(false)).collect()))
});

pub fn on(number: usize) -> bool {
    if let Some((path, seen)) = &*REACHED {
        if !seen[number].swap(true, Ordering::Relaxed) {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let _ = file.map(|mut it| it.write_all(format!("{number}\n").as_bytes()));
        }
    }
    *ACTIVE == number
}
"#;

struct Mutant {
    number: usize,
    genre: String,
    replacement: String,
}

/// A change of the text between two byte offsets.
enum Edit {
    /// An expression with an operator between two operands, or before one (`left` is empty).
    Operator {
        left: (usize, usize),
        operator: String,
        right: (usize, usize),
        other: Vec<(usize, String)>,
    },
    /// A text to insert.
    Insert(String),
    /// A guard of a match arm, and the mutants with their values.
    Guard(Vec<(usize, String)>),
    /// A struct expression, and the mutants with the range that each leaves out.
    Struct(Vec<(usize, (usize, usize))>),
}

struct Rewrite<'a> {
    text: &'a str,
    lines: Vec<usize>,
    /// By the genre and the start of their span.
    mutants: HashMap<(String, (usize, usize)), Vec<Mutant>>,
    edits: Vec<(usize, usize, Edit)>,
    written: Vec<usize>,
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let (tree, list) = (Path::new(&arguments[1]), &arguments[2]);
    let refused: HashSet<usize> = arguments[3..].iter().map(|it| it.parse().unwrap()).collect();
    let list: Value = serde_json::from_str(&fs::read_to_string(list).unwrap()).unwrap();
    let list = list.as_array().unwrap();
    let mut files: HashMap<&str, Vec<(usize, &Value)>> = HashMap::new();
    for (number, it) in list.iter().enumerate().filter(|(number, _)| !refused.contains(number)) {
        files.entry(it["file"].as_str().unwrap()).or_default().push((number, it));
    }
    let mut written = Vec::new();
    for (name, mutants) in files {
        let path = tree.join(name);
        let text = fs::read_to_string(&path).unwrap();
        let mut rewrite = Rewrite::new(&text, &mutants);
        rewrite.visit_file(&syn::parse_file(&text).unwrap());
        rewrite.edits.sort_by_key(|(start, end, _)| (*start, std::cmp::Reverse(*end)));
        let all: Vec<usize> = (0..rewrite.edits.len()).collect();
        let changed = rewrite.render(0, text.len(), &all);
        fs::write(&path, changed).unwrap();
        written.append(&mut rewrite.written);
    }
    let switch = SWITCH.replace("COUNT", &list.len().to_string());
    fs::write(tree.join("src/mutation.rs"), switch.trim_start()).unwrap();
    let lib = tree.join("src/lib.rs");
    let text = fs::read_to_string(&lib).unwrap();
    fs::write(&lib, format!("{text}\n#[doc(hidden)]\npub mod mutation;\n")).unwrap();
    written.sort_unstable();
    written.iter().for_each(|it| println!("{it}"));
}

impl<'a> Rewrite<'a> {
    fn new(text: &'a str, mutants: &[(usize, &Value)]) -> Self {
        let mut lines = vec![0];
        lines.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        let mut by_span: HashMap<_, Vec<Mutant>> = HashMap::new();
        for (number, it) in mutants {
            let genre = it["genre"].as_str().unwrap().to_owned();
            let start = &it["span"]["start"];
            let start = ["line", "column"].map(|part| start[part].as_u64().unwrap() as usize);
            let replacement = it["replacement"].as_str().unwrap().to_owned();
            by_span.entry((genre.clone(), (start[0], start[1]))).or_default().push(Mutant {
                number: *number,
                genre,
                replacement,
            });
        }
        Self { text, lines, mutants: by_span, edits: Vec::new(), written: Vec::new() }
    }

    fn offset(&self, at: LineColumn) -> usize {
        let line = self.lines[at.line - 1];
        let rest = &self.text[line..];
        line + rest.char_indices().nth(at.column).map_or(rest.len(), |(at, _)| at)
    }

    fn range(&self, span: Span) -> (usize, usize) {
        (self.offset(span.start()), self.offset(span.end()))
    }

    /// Returns the mutants of this genre whose span starts here, with their replacements.
    fn take(&mut self, genre: &str, at: LineColumn) -> Vec<(usize, String)> {
        let found = self.mutants.remove(&(genre.to_owned(), (at.line, at.column + 1)));
        let found = found.unwrap_or_default();
        debug_assert!(found.iter().all(|it| it.genre == genre));
        self.written.extend(found.iter().map(|it| it.number));
        found.into_iter().map(|it| (it.number, it.replacement)).collect()
    }

    /// A `const fn` cannot read a switch.
    fn function(&mut self, signature: &Signature, block: &Block) {
        if signature.constness.is_some() {
            return;
        }
        let open = block.brace_token.span.open();
        // The span of the mutants starts at the first statement, or at the end of an empty body.
        let Some(first) = block.stmts.first() else { return };
        let found = self.take("FnValue", first.span().start());
        let inserts = found.iter().map(|(number, value)| {
            format!(" if crate::mutation::on({number}) {{ return {value}; }} ")
        });
        let text: String = inserts.collect();
        let at = self.offset(open.end());
        if !text.is_empty() {
            self.edits.push((at, at, Edit::Insert(text)));
        }
        visit::visit_block(self, block);
    }

    /// Returns the text from `start` to `end` with these edits.
    fn render(&self, start: usize, end: usize, edits: &[usize]) -> String {
        let (mut out, mut done, mut rest) = (String::new(), start, edits);
        while let Some((first, others)) = rest.split_first() {
            let (from, to, edit) = &self.edits[*first];
            let inner = others.iter().take_while(|it| self.edits[**it].1 <= *to && from != to);
            let (inner, after) = others.split_at(inner.count());
            out.push_str(&self.text[done..*from]);
            out.push_str(&self.edited(*from, *to, edit, inner));
            (done, rest) = (*to, after);
        }
        out + &self.text[done..end]
    }

    fn within(&self, start: usize, end: usize, edits: &[usize]) -> String {
        let held = edits.iter().copied().filter(|it| {
            let (from, to, _) = &self.edits[*it];
            start <= *from && *to <= end
        });
        self.render(start, end, &held.collect::<Vec<_>>())
    }

    fn edited(&self, from: usize, to: usize, edit: &Edit, inner: &[usize]) -> String {
        match edit {
            Edit::Insert(text) => text.clone(),
            Edit::Operator { left, operator, right, other } => {
                let (left, right) =
                    (self.within(left.0, left.1, inner), self.within(right.0, right.1, inner));
                let mut out = "(".to_owned();
                for (number, it) in other {
                    out += &format!(
                        "if crate::mutation::on({number}) {{ {left} {it} {right} }} else "
                    );
                }
                out + &format!("{{ {left} {operator} {right} }})")
            }
            Edit::Guard(values) => {
                let mut out = String::new();
                for (number, value) in values {
                    out += &format!("if crate::mutation::on({number}) {{ {value} }} else ");
                }
                out + &format!("{{ {} }}", self.render(from, to, inner))
            }
            Edit::Struct(fields) => {
                let mut out = "(".to_owned();
                for (number, (start, end)) in fields {
                    let (head, tail) =
                        (self.within(from, *start, inner), self.within(*end, to, inner));
                    out += &format!("if crate::mutation::on({number}) {{ {head}{tail} }} else ");
                }
                out + &format!("{{ {} }})", self.render(from, to, inner))
            }
        }
    }
}

/// Whether an `&&` with `let` is in it: then it must stay a condition.
fn has_let(it: &Expr) -> bool {
    match it {
        Expr::Let(_) => true,
        Expr::Binary(it) => has_let(&it.left) || has_let(&it.right),
        _ => false,
    }
}

impl<'a> Visit<'a> for Rewrite<'_> {
    fn visit_file(&mut self, it: &'a File) {
        visit::visit_file(self, it);
    }

    fn visit_item_const(&mut self, _: &'a ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'a ImplItemConst) {}
    fn visit_item_static(&mut self, _: &'a ItemStatic) {}
    fn visit_item_macro(&mut self, _: &'a ItemMacro) {}
    fn visit_expr_const(&mut self, _: &'a ExprConst) {}
    fn visit_type(&mut self, _: &'a syn::Type) {}
    fn visit_attribute(&mut self, _: &'a syn::Attribute) {}
    fn visit_pat(&mut self, _: &'a syn::Pat) {}

    fn visit_item_fn(&mut self, it: &'a ItemFn) {
        self.function(&it.sig, &it.block);
    }

    fn visit_impl_item_fn(&mut self, it: &'a ImplItemFn) {
        self.function(&it.sig, &it.block);
    }

    fn visit_trait_item_fn(&mut self, it: &'a TraitItemFn) {
        if let Some(block) = &it.default {
            self.function(&it.sig, block);
        }
    }

    fn visit_expr_binary(&mut self, it: &'a ExprBinary) {
        if !matches!(it.op, BinOp::And(_)) || !has_let(&it.left) && !has_let(&it.right) {
            let other = self.take("BinaryOperator", it.op.span().start());
            if !other.is_empty() {
                let (left, right) = (self.range(it.left.span()), self.range(it.right.span()));
                let operator = self.range(it.op.span());
                let operator = self.text[operator.0..operator.1].to_owned();
                let edit = Edit::Operator { left, operator, right, other };
                self.edits.push((left.0, right.1, edit));
            }
        }
        visit::visit_expr_binary(self, it);
    }

    fn visit_expr_unary(&mut self, it: &'a ExprUnary) {
        let other = self.take("UnaryOperator", it.op.span().start());
        if !other.is_empty() {
            let (operator, right) = (self.range(it.op.span()), self.range(it.expr.span()));
            let left = (operator.0, operator.0);
            let text = self.text[operator.0..operator.1].to_owned();
            self.edits.push((
                left.0,
                right.1,
                Edit::Operator { left, operator: text, right, other },
            ));
        }
        visit::visit_expr_unary(self, it);
    }

    fn visit_arm(&mut self, it: &'a Arm) {
        let deleted = self.take("MatchArm", it.span().start());
        match &it.guard {
            Some((_, guard)) if !has_let(guard) => {
                let mut values = self.take("MatchArmGuard", guard.span().start());
                values.extend(deleted.into_iter().map(|(number, _)| (number, "false".to_owned())));
                let (start, end) = self.range(guard.span());
                if !values.is_empty() {
                    self.edits.push((start, end, Edit::Guard(values)));
                }
            }
            Some(_) => {}
            None => {
                let at = self.range(it.pat.span()).1;
                for (number, _) in deleted {
                    let guard = format!(" if !crate::mutation::on({number})");
                    self.edits.push((at, at, Edit::Insert(guard)));
                }
            }
        }
        visit::visit_arm(self, it);
    }

    fn visit_expr_struct(&mut self, it: &'a ExprStruct) {
        let mut left_out = Vec::new();
        for pair in it.fields.pairs() {
            for (number, _) in self.take("StructField", pair.value().span().start()) {
                left_out.push((number, self.range(pair.span())));
            }
        }
        if !left_out.is_empty() {
            let (start, end) = self.range(it.span());
            self.edits.push((start, end, Edit::Struct(left_out)));
        }
        visit::visit_expr_struct(self, it);
    }
}
