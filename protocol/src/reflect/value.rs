//! [`Reflect`] for Kafka's types.

use std::fmt::Write;

use bytes::Bytes;

use super::{Random, Tree};
use crate::{Records, Str, TaggedFields, Uuid};

/// What can be drawn at random and be shown in a form that Kafka's own classes can be compared with.
pub trait Reflect: Sized {
    fn random(r: &mut Random, version: i16, nullable: bool) -> Self;

    fn dump(&self, out: &mut String);

    fn tree(&self) -> Tree;

    /// The value that a tree stands for; fields that it lacks have their defaults. An error says what does not fit.
    fn from_tree(tree: &Tree) -> Result<Self, String>;
}

fn unfit<T>(tree: &Tree) -> Result<T, String> {
    Err(format!("{tree:?} does not fit"))
}

/// The object-safe half of [`Reflect`].
pub trait Dump {
    fn dump_to(&self, out: &mut String);
}

impl<T: Reflect> Dump for T {
    fn dump_to(&self, out: &mut String) {
        self.dump(out);
    }
}

/// As Kafka's classes call it, in lower case; the unknown tagged fields have no name.
fn field_name(name: &str) -> String {
    if name == "unknown_tagged_fields" { String::new() } else { name.trim_start_matches("r#").replace('_', "") }
}

/// `{name=value;...}`, sorted by name; the unknown tagged fields, which have no name, come last.
pub(crate) fn dump_struct(fields: Vec<(&str, &dyn Dump)>, out: &mut String) {
    let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (field_name(name), value)).collect();
    fields.sort_by(|a, b| (a.0.is_empty(), &a.0).cmp(&(b.0.is_empty(), &b.0)));
    out.push('{');
    for (name, value) in fields {
        if name.is_empty() {
            value.dump_to(out);
            continue;
        }
        out.push_str(&name);
        out.push('=');
        value.dump_to(out);
        out.push(';');
    }
    out.push('}');
}

fn hex(bytes: &[u8], out: &mut String) {
    out.push('x');
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

macro_rules! reflect_integers {
    ($($type:ty),*) => {$(
        impl Reflect for $type {
            fn random(r: &mut Random, _: i16, _: bool) -> Self {
                match r.below(6) {
                    0 => 0,
                    1 => (0 as $type).wrapping_sub(1),
                    2 => <$type>::MAX,
                    3 => r.below(100) as $type,
                    _ => r.u64() as $type,
                }
            }

            fn dump(&self, out: &mut String) {
                let _ = write!(out, "{self}");
            }

            fn tree(&self) -> Tree {
                Tree::Int(i64::from(*self))
            }

            fn from_tree(tree: &Tree) -> Result<Self, String> {
                let Tree::Int(value) = tree else { return unfit(tree) };
                <$type>::try_from(*value).or_else(|_| unfit(tree))
            }
        }
    )*};
}

reflect_integers!(i8, i16, u16, i32, u32, i64);

impl Reflect for bool {
    fn random(r: &mut Random, _: i16, _: bool) -> Self {
        r.one_in(2)
    }

    fn dump(&self, out: &mut String) {
        let _ = write!(out, "{self}");
    }

    fn tree(&self) -> Tree {
        Tree::Bool(*self)
    }

    fn from_tree(tree: &Tree) -> Result<Self, String> {
        if let Tree::Bool(value) = tree { Ok(*value) } else { unfit(tree) }
    }
}

impl Reflect for f64 {
    fn random(r: &mut Random, _: i16, _: bool) -> Self {
        r.u64() as i64 as f64 / 1024.0
    }

    fn dump(&self, out: &mut String) {
        let _ = write!(out, "{:016x}", self.to_bits());
    }

    fn tree(&self) -> Tree {
        Tree::Float(*self)
    }

    fn from_tree(tree: &Tree) -> Result<Self, String> {
        if let Tree::Float(value) = tree { Ok(*value) } else { unfit(tree) }
    }
}

impl Reflect for Uuid {
    fn random(r: &mut Random, _: i16, _: bool) -> Self {
        if r.one_in(4) {
            return Uuid::ZERO;
        }
        Uuid::from_u128(u128::from(r.u64()) << 64 | u128::from(r.u64()))
    }

    fn dump(&self, out: &mut String) {
        let _ = write!(out, "{:032x}", self.to_u128());
    }

    fn tree(&self) -> Tree {
        Tree::Uuid(*self)
    }

    fn from_tree(tree: &Tree) -> Result<Self, String> {
        if let Tree::Uuid(value) = tree { Ok(*value) } else { unfit(tree) }
    }
}

impl Reflect for Str {
    fn random(r: &mut Random, _: i16, _: bool) -> Self {
        let size = if r.one_in(40) { 200 } else { r.below(9) };
        let alphabet = ['a', 'Z', '-', '0', 'é', '中', '🚀', '\0'];
        let symbol = |at: u64| alphabet.get(at as usize).copied().unwrap_or('a');
        Str::from((0..size).map(|_| symbol(r.below(alphabet.len() as u64))).collect::<String>())
    }

    fn dump(&self, out: &mut String) {
        hex(self.as_bytes(), out);
    }

    fn tree(&self) -> Tree {
        Tree::Text(self.to_string())
    }

    fn from_tree(tree: &Tree) -> Result<Self, String> {
        if let Tree::Text(text) = tree { Ok(Str::from(text.clone())) } else { unfit(tree) }
    }
}

impl Reflect for Bytes {
    fn random(r: &mut Random, _: i16, _: bool) -> Self {
        r.bytes()
    }

    fn dump(&self, out: &mut String) {
        hex(self, out);
    }

    fn tree(&self) -> Tree {
        Tree::Bytes(self.clone())
    }

    fn from_tree(tree: &Tree) -> Result<Self, String> {
        match tree {
            Tree::Bytes(bytes) => Ok(bytes.clone()),
            Tree::Text(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            _ => unfit(tree),
        }
    }
}

impl Reflect for Records {
    fn random(r: &mut Random, version: i16, nullable: bool) -> Records {
        Records::from(Bytes::random(r, version, nullable))
    }

    fn dump(&self, out: &mut String) {
        self.clone().into_bytes().dump(out);
    }

    fn tree(&self) -> Tree {
        Tree::Bytes(self.clone().into_bytes())
    }

    fn from_tree(tree: &Tree) -> Result<Self, String> {
        Bytes::from_tree(tree).map(Records::from)
    }
}

impl<T: Reflect> Reflect for Option<T> {
    fn random(r: &mut Random, version: i16, nullable: bool) -> Self {
        if nullable && r.one_in(4) { None } else { Some(T::random(r, version, false)) }
    }

    fn dump(&self, out: &mut String) {
        match self {
            None => out.push_str("null"),
            Some(value) => value.dump(out),
        }
    }

    fn tree(&self) -> Tree {
        self.as_ref().map_or(Tree::Null, T::tree)
    }

    fn from_tree(tree: &Tree) -> Result<Self, String> {
        if *tree == Tree::Null { Ok(None) } else { T::from_tree(tree).map(Some) }
    }
}

impl<T: Reflect> Reflect for Vec<T> {
    fn random(r: &mut Random, version: i16, _: bool) -> Self {
        let long = r.depth <= 1 && r.one_in(40);
        let count = if long { 128 + r.below(32) } else { r.below(if r.depth > 2 { 3 } else { 4 }) };
        (0..count).map(|_| T::random(r, version, false)).collect()
    }

    fn dump(&self, out: &mut String) {
        out.push('[');
        for element in self {
            element.dump(out);
            out.push(',');
        }
        out.push(']');
    }

    fn tree(&self) -> Tree {
        Tree::List(self.iter().map(T::tree).collect())
    }

    fn from_tree(tree: &Tree) -> Result<Self, String> {
        if let Tree::List(list) = tree { list.iter().map(T::from_tree).collect() } else { unfit(tree) }
    }
}

impl Reflect for TaggedFields {
    fn random(r: &mut Random, _: i16, _: bool) -> Self {
        let mut fields = TaggedFields::default();
        let count = if r.one_in(12) { r.below(4) } else { 0 };
        for _ in 0..count {
            // Far above the tags in use.
            fields.insert(100 + r.below(1 << 24) as u32, r.bytes());
        }
        fields
    }

    fn dump(&self, out: &mut String) {
        for field in self {
            let _ = write!(out, "{}#", field.tag);
            hex(&field.data, out);
            out.push(';');
        }
    }

    fn tree(&self) -> Tree {
        let field = |f: &crate::TaggedField| vec![("tag", f.tag.tree()), ("data", f.data.tree())];
        Tree::List(self.iter().map(|f| super::tree_of_struct(field(f))).collect())
    }

    fn from_tree(tree: &Tree) -> Result<Self, String> {
        let Tree::List(list) = tree else { return unfit(tree) };
        let mut out = TaggedFields::default();
        for field in list {
            let fields = super::fields_of(field, &["tag", "data"])?;
            let (mut tag, mut data) = (0, Bytes::new());
            super::set(&mut tag, "tag", fields)?;
            super::set(&mut data, "data", fields)?;
            out.insert(tag, data);
        }
        Ok(out)
    }
}
