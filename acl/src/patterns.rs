//! What is kept for the resources that rules name: a radix tree over the bytes of type and name, whose versions share structure.
//!
//! One walk along a name passes everything that is kept for its prefixes and ends at what is kept for the name itself, whatever
//! the number of patterns: that is what keeps a check short. What it costs are the cache lines it touches, so a node holds its
//! label and what is kept for it, and its parent the first bytes of the labels.

use std::sync::Arc;

use super::rule::ResourceType;

/// The tree goes no deeper. Names that clients use are shorter (topics: 249 bytes); those that are not must not cost the stack.
const DEEPEST: usize = 512;
/// Bytes of one label; what is longer takes several nodes.
const LABEL: usize = 23;

#[derive(Clone, Debug)]
pub struct Patterns<T> {
    root: Node<T>,
    /// Patterns too long for the tree.
    long: imbl::OrdMap<(Pattern, Box<str>), T>,
}

/// What of a resource a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    pub of: ResourceType,
    /// The name is one that others begin with; each does with the empty one.
    pub prefixed: bool,
}

#[derive(Clone, Debug)]
struct Node<T> {
    label: Label,
    literal: Option<T>,
    prefixed: Option<T>,
    /// By the first bytes of their labels.
    children: Vec<(u8, Arc<Node<T>>)>,
}

/// Bytes from the parent to here; empty only at the root.
#[derive(Clone, Copy, Debug, Default)]
struct Label {
    len: u8,
    bytes: [u8; LABEL],
}

impl Label {
    /// As much of `bytes` as a label takes.
    fn of(bytes: &[u8]) -> Label {
        let mut label = Label::default();
        for (to, from) in label.bytes.iter_mut().zip(bytes) {
            *to = *from;
            label.len += 1;
        }
        label
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Patterns { root: Node::new(Label::default()), long: imbl::OrdMap::new() }
    }
}

impl<T> Node<T> {
    fn new(label: Label) -> Node<T> {
        Node { label, literal: None, prefixed: None, children: Vec::new() }
    }

    fn place(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |(byte, _)| *byte)
    }

    /// The child that bytes go through, and what comes after it.
    fn step<'a, 'b>(&'a self, rest: &'b [u8]) -> Option<(&'a Node<T>, &'b [u8])> {
        let (_, child) = self.children.get(self.place(*rest.first()?).ok()?)?;
        Some((child, rest.strip_prefix(child.label.bytes())?))
    }

    fn is_empty(&self) -> bool {
        self.literal.is_none() && self.prefixed.is_none() && self.children.is_empty()
    }
}

impl<T> Patterns<T> {
    pub fn is_empty(&self) -> bool {
        self.root.is_empty() && self.long.is_empty()
    }

    /// What is kept for a name, and for every prefix of it that is a pattern.
    pub fn matching(&self, of: ResourceType, name: &str, mut found: impl FnMut(&T)) {
        if name.len() > DEEPEST {
            let fits = |(pattern, text): &(Pattern, Box<str>)| {
                pattern.of == of && if pattern.prefixed { name.starts_with(&**text) } else { name == &**text }
            };
            self.long.iter().filter(|(key, _)| fits(key)).for_each(|(_, kept)| found(kept));
        }
        let Some((mut node, _)) = self.root.step(&[of as u8]) else { return };
        let mut rest = name.as_bytes();
        loop {
            if let Some(prefixed) = &node.prefixed {
                found(prefixed);
            }
            if rest.is_empty() {
                return node.literal.iter().for_each(found);
            }
            match node.step(rest) {
                Some(next) => (node, rest) = next,
                None => return,
            }
        }
    }
}

impl<T: Clone + Default> Patterns<T> {
    /// Changes what is kept for a pattern; `change` returns whether anything is left of it.
    pub fn change(&mut self, pattern: Pattern, name: &str, change: impl FnOnce(&mut T) -> bool) {
        if name.len() <= DEEPEST {
            // The type has a node of its own, so that a walk need not put it before the name.
            return change_below(&mut self.root, &[pattern.of as u8], |node| {
                change_below(node, name.as_bytes(), |node| {
                    let slot = if pattern.prefixed { &mut node.prefixed } else { &mut node.literal };
                    if !change(slot.get_or_insert_default()) {
                        *slot = None;
                    }
                });
            });
        }
        let key = (pattern, name.into());
        let mut kept = self.long.remove(&key).unwrap_or_default();
        if change(&mut kept) {
            self.long.insert(key, kept);
        }
    }
}

/// Changes the node that `rest` leads to from `node`, and leaves no empty one on the way.
fn change_below<T: Clone>(node: &mut Node<T>, rest: &[u8], change: impl FnOnce(&mut Node<T>)) {
    let Some(first) = rest.first() else { return change(node) };
    let at = match node.place(*first) {
        Ok(at) => at,
        Err(at) => {
            node.children.insert(at, (*first, Arc::new(Node::new(Label::of(rest)))));
            at
        }
    };
    let Some((_, child)) = node.children.get_mut(at) else { return };
    let common = child.label.bytes().iter().zip(rest).take_while(|(a, b)| a == b).count();
    let (upper, lower) = child.label.bytes().split_at_checked(common).unwrap_or_default();
    if let Some(first) = lower.first() {
        // The name leaves the label: what lies below goes one level down.
        let mut fork = Node::new(Label::of(upper));
        let below = Node { label: Label::of(lower), ..(**child).clone() };
        fork.children.push((*first, Arc::new(below)));
        *child = Arc::new(fork);
    }
    let below = Arc::make_mut(child);
    change_below(below, rest.get(common..).unwrap_or_default(), change);
    if below.is_empty() {
        node.children.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const OF: ResourceType = ResourceType::Group;

    fn pattern(prefixed: bool) -> Pattern {
        Pattern { of: OF, prefixed }
    }

    fn found(patterns: &Patterns<Vec<u32>>, name: &str) -> Vec<u32> {
        let mut all = Vec::new();
        patterns.matching(OF, name, |kept| all.extend(kept));
        patterns.matching(ResourceType::Topic, name, |_| panic!("nothing is kept for topics"));
        all.sort_unstable();
        all
    }

    #[test]
    fn names_longer_than_the_tree_is_deep_are_found() {
        let long = |n: usize| "x".repeat(n);
        let mut tree: Patterns<Vec<u32>> = Patterns::default();
        let patterns = [(true, long(3)), (true, long(DEEPEST + 1)), (false, long(DEEPEST + 2)), (false, long(40_000))];
        for (n, (prefixed, name)) in patterns.iter().enumerate() {
            tree.change(pattern(*prefixed), name, |kept| {
                kept.push(n as u32);
                true
            });
        }
        assert_eq!(found(&tree, &long(DEEPEST)), [0]);
        assert_eq!(found(&tree, &long(DEEPEST + 2)), [0, 1, 2]);
        assert_eq!(found(&tree, &long(40_000)), [0, 1, 3]);
        tree.change(pattern(true), &long(DEEPEST + 1), |_| false);
        assert_eq!(found(&tree, &long(40_000)), [0, 3]);
    }

    proptest! {
        /// Names over few letters, so that they share prefixes; `ä` is two bytes, and some labels are longer than a node takes.
        #[test]
        fn a_walk_finds_what_a_search_through_all_finds(
            patterns in proptest::collection::vec((any::<bool>(), "([abä]|b{30}){0,5}"), 0..40),
            gone in proptest::collection::vec(any::<proptest::sample::Index>(), 0..30),
            names in proptest::collection::vec("([abä]|b{30}){0,6}", 1..20),
        ) {
            let mut tree: Patterns<Vec<u32>> = Patterns::default();
            for (n, (prefixed, name)) in patterns.iter().enumerate() {
                tree.change(pattern(*prefixed), name, |kept| { kept.push(n as u32); true });
            }
            let before = tree.clone();
            let mut left: BTreeSet<usize> = (0..patterns.len()).collect();
            for n in gone.iter().filter(|_| !patterns.is_empty()).map(|index| index.index(patterns.len())) {
                if left.remove(&n) {
                    let (prefixed, name) = &patterns[n];
                    tree.change(pattern(*prefixed), name, |kept| { kept.retain(|k| *k != n as u32); !kept.is_empty() });
                }
            }
            prop_assert_eq!(tree.is_empty(), left.is_empty());
            let fits = |n: usize, name: &str| {
                let (prefixed, text) = &patterns[n];
                if *prefixed { name.starts_with(text.as_str()) } else { name == text }
            };
            for name in &names {
                let wanted: Vec<u32> = left.iter().filter(|n| fits(**n, name)).map(|n| *n as u32).collect();
                prop_assert_eq!(found(&tree, name), wanted);
                let all: Vec<u32> = (0..patterns.len()).filter(|n| fits(*n, name)).map(|n| n as u32).collect();
                prop_assert_eq!(found(&before, name), all, "an older version stays as it was");
            }
        }
    }
}
