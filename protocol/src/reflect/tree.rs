//! [`Tree`]: a message with its type erased, field by field, so that tests can write, change and compare any of them.

use bytes::Bytes;

use super::Reflect;
use crate::Uuid;

/// A value of a message. Fields keep the order and the names (`snake_case`) of the generated structs.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Bytes),
    Uuid(Uuid),
    List(Vec<Tree>),
    Struct(Vec<(String, Tree)>),
}

impl Tree {
    /// The field of a struct.
    pub fn field(&self, name: &str) -> Option<&Tree> {
        match self {
            Tree::Struct(fields) => fields.iter().find(|(n, _)| n == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// As the generated structs call it, without the mark of a Rust keyword.
fn plain(name: &str) -> &str {
    name.trim_start_matches("r#")
}

/// Unknown tagged fields are shown only where there are any.
pub(crate) fn tree_of_struct(fields: Vec<(&str, Tree)>) -> Tree {
    let shown = fields.into_iter().filter(|(name, value)| {
        *name != "unknown_tagged_fields" || !matches!(value, Tree::List(tagged) if tagged.is_empty())
    });
    Tree::Struct(shown.map(|(name, value)| (plain(name).to_owned(), value)).collect())
}

/// The fields of a struct, each of which must be in `names`.
pub(crate) fn fields_of<'a>(tree: &'a Tree, names: &[&str]) -> Result<&'a [(String, Tree)], String> {
    let Tree::Struct(fields) = tree else { return Err(format!("a struct is needed instead of {tree:?}")) };
    match fields.iter().find(|(field, _)| !names.iter().any(|name| plain(name) == field)) {
        Some((unknown, _)) => Err(format!("no field '{unknown}' among {names:?}")),
        None => Ok(fields),
    }
}

/// Sets one field from a struct's, if it is there.
pub(crate) fn set<T: Reflect>(field: &mut T, name: &str, fields: &[(String, Tree)]) -> Result<(), String> {
    if let Some((_, tree)) = fields.iter().find(|(n, _)| n == plain(name)) {
        *field = T::from_tree(tree).map_err(|e| format!("{}: {e}", plain(name)))?;
    }
    Ok(())
}
