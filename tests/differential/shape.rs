//! What the requests of an API are made of: each field that some version of it has, with a plain value, in lists of one element.

use crate::value::Expr;
use corelane_protocol::{ApiKey, Random, SCHEMAS, Tree};

/// Random values that are looked at for each version: some of their lists are empty, and some of their fields null.
const LOOKS: usize = 12;

pub fn of(api: ApiKey) -> Expr {
    let name = format!("{}Request", api.name());
    let schema = SCHEMAS.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no schema {name}"));
    let (mut random, mut shape) = (Random::new(1), Tree::Null);
    for version in schema.min_version..=schema.max_version {
        for _ in 0..LOOKS {
            let (bytes, _) = (schema.random)(&mut random, version);
            merge(&mut shape, (schema.tree)(bytes, version).unwrap_or_else(|e| panic!("{name} {version}: {e}")));
        }
    }
    plain(shape)
}

fn merge(shape: &mut Tree, seen: Tree) {
    match (shape, seen) {
        (Tree::Struct(fields), Tree::Struct(seen)) => {
            for (name, value) in seen.into_iter().filter(|(name, _)| name != "unknown_tagged_fields") {
                match fields.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, known)) => merge(known, value),
                    None => fields.push((name, collapsed(value))),
                }
            }
        }
        (Tree::List(one), Tree::List(seen)) => {
            let mut all = one.drain(..).chain(seen);
            if let Some(mut first) = all.next().map(collapsed) {
                all.for_each(|other| merge(&mut first, other));
                one.push(first);
            }
        }
        (shape @ Tree::Null, seen) => *shape = collapsed(seen),
        _ => {}
    }
}

/// Lists of one element at most, and what they are made of.
fn collapsed(tree: Tree) -> Tree {
    let mut shape = match &tree {
        Tree::Struct(_) => Tree::Struct(Vec::new()),
        Tree::List(_) => Tree::List(Vec::new()),
        _ => return tree,
    };
    merge(&mut shape, tree);
    shape
}

fn plain(shape: Tree) -> Expr {
    match shape {
        Tree::Struct(fields) => Expr::Struct(fields.into_iter().map(|(name, value)| (name, plain(value))).collect()),
        Tree::List(list) => Expr::List(list.into_iter().map(plain).collect()),
        Tree::Text(_) => Expr::Text("1".into()),
        Tree::Uuid(_) => Expr::Call("uuid".into(), vec![Expr::Text("a2".into())]),
        Tree::Bytes(_) => Expr::Literal(Tree::Bytes(Default::default())),
        Tree::Int(_) => Expr::Literal(Tree::Int(1)),
        Tree::Float(_) => Expr::Literal(Tree::Float(0.5)),
        Tree::Bool(_) => Expr::Literal(Tree::Bool(false)),
        Tree::Null => Expr::Literal(Tree::Null),
    }
}
