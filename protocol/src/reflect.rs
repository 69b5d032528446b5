//! Random values and canonical text of every message, under the feature `reflect` (tests and fuzzing only).
//!
//! The generated `reflect!` lines name each field with the versions that have it and those in which it may be null.

#[cfg(not(feature = "reflect"))]
macro_rules! reflect {
    ($($ignored:tt)*) => {};
}

#[cfg(feature = "reflect")]
macro_rules! reflect {
    ($name:ident { $($field:ident($lo:literal, $hi:literal, $null_lo:literal, $null_hi:literal)),* $(,)? }) => {
        impl crate::reflect::Reflect for $name {
            #[allow(unused, clippy::reversed_empty_ranges, clippy::field_reassign_with_default)]
            fn random(r: &mut crate::reflect::Random, version: i16, _: bool) -> Self {
                r.enter();
                let mut value = Self::default();
                $(if ($lo..=$hi).contains(&version) {
                    let nullable = ($null_lo..=$null_hi).contains(&version);
                    value.$field = crate::reflect::Reflect::random(r, version, nullable);
                })*
                r.leave();
                value
            }

            fn dump(&self, out: &mut String) {
                crate::reflect::dump_struct(vec![$((stringify!($field), &self.$field)),*], out);
            }

            fn tree(&self) -> crate::reflect::Tree {
                crate::reflect::tree_of_struct(vec![$((stringify!($field), self.$field.tree())),*])
            }

            fn from_tree(tree: &crate::reflect::Tree) -> Result<Self, String> {
                let fields = crate::reflect::fields_of(tree, &[$(stringify!($field)),*])?;
                let mut value = Self::default();
                $(crate::reflect::set(&mut value.$field, stringify!($field), fields)?;)*
                Ok(value)
            }
        }
    };
}

#[cfg(feature = "reflect")]
mod random;
#[cfg(feature = "reflect")]
mod schema;
#[cfg(feature = "reflect")]
mod tree;
#[cfg(feature = "reflect")]
mod value;

#[cfg(feature = "reflect")]
pub use random::Random;
#[cfg(feature = "reflect")]
pub use schema::Schema;
#[cfg(feature = "reflect")]
pub(crate) use schema::schema;
#[cfg(feature = "reflect")]
pub use tree::Tree;
#[cfg(feature = "reflect")]
pub(crate) use tree::{fields_of, set, tree_of_struct};
#[cfg(feature = "reflect")]
pub use value::Reflect;
#[cfg(feature = "reflect")]
pub(crate) use value::dump_struct;
