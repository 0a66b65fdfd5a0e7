//! A tree of routes by the segments of their paths, so that a request looks at few of them.

use std::collections::HashMap;

use super::pattern::{PathPattern, Segment};

/// A node of the tree. Routes are positions in the list; the lowest wins.
#[derive(Debug, Default)]
pub(super) struct Node {
    literals: HashMap<Box<str>, Node>,
    any: Option<Box<Node>>,
    /// The routes whose path ends here.
    ending: Vec<usize>,
    /// The routes that match all that follows.
    open: Vec<usize>,
}

impl Node {
    /// Adds a route. Routes must come in the order of the list.
    pub fn insert(&mut self, path: &PathPattern, place: usize) {
        let mut node = self;
        for segment in &path.segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Segment::Any => node.any.get_or_insert_default(),
            };
        }
        let routes = if path.open { &mut node.open } else { &mut node.ending };
        routes.push(place);
    }

    /// Returns the first route of the list that matches these segments and that `admits` accepts.
    pub fn first<'p>(
        &self,
        segments: impl Iterator<Item = &'p str> + Clone,
        admits: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut best = None;
        self.search(segments, admits, &mut best);
        best
    }

    fn search<'p>(
        &self,
        mut segments: impl Iterator<Item = &'p str> + Clone,
        admits: &impl Fn(usize) -> bool,
        best: &mut Option<usize>,
    ) {
        improve(&self.open, admits, best);
        let Some(segment) = segments.next() else {
            return improve(&self.ending, admits, best);
        };
        if let Some(next) = self.literals.get(segment) {
            next.search(segments.clone(), admits, best);
        }
        if let Some(next) = &self.any {
            next.search(segments, admits, best);
        }
    }
}

fn improve(routes: &[usize], admits: &impl Fn(usize) -> bool, best: &mut Option<usize>) {
    let earlier = routes.iter().take_while(|it| best.is_none_or(|best| **it < best));
    if let Some(found) = earlier.copied().find(|it| admits(*it)) {
        *best = Some(found);
    }
}
