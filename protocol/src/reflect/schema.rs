//! [`Schema`]: one message with its type erased.

use bytes::Bytes;

use super::{Random, Reflect, Tree};
use crate::{DecodeError, Decoder, EncodeError, Message};

/// A value in another version, or why it has no form there.
pub type Converted = Result<Bytes, EncodeError>;

/// One message with its type erased.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    pub name: &'static str,
    /// Kafka's class for it.
    pub java_class: &'static str,
    pub min_version: i16,
    pub max_version: i16,
    /// A random value in one version: its bytes and its dump.
    pub random: fn(&mut Random, i16) -> (Bytes, String),
    /// Reads all of the bytes; gives what the value is written as and its dump.
    pub read: fn(Bytes, i16) -> Result<(Bytes, String), DecodeError>,
    /// Reads a value and drops it; gives how many bytes were left.
    pub decode: fn(Bytes, i16) -> Result<usize, DecodeError>,
    /// Reads a value in one version and writes it in another, which may refuse it.
    pub convert: fn(Bytes, i16, i16) -> Result<Converted, DecodeError>,
    /// The dump of the default value.
    pub default: fn() -> String,
    /// Reads all of the bytes as a tree.
    pub tree: fn(Bytes, i16) -> Result<Tree, DecodeError>,
    /// Writes a tree. The outer error says what in it fits no field, the inner one why this version has no form for it.
    pub write: fn(&Tree, i16) -> Result<Converted, String>,
}

pub(crate) const fn schema<M: Message + Reflect>(java_class: &'static str) -> Schema {
    Schema {
        name: M::NAME,
        java_class,
        min_version: M::MIN_VERSION,
        max_version: M::MAX_VERSION,
        random: random::<M>,
        read: read::<M>,
        decode: decode::<M>,
        convert: convert::<M>,
        default: || dumped(&M::default()),
        tree: tree::<M>,
        write: |tree, version| M::from_tree(tree).map(|value| value.to_bytes(version)),
    }
}

fn dumped(value: &impl Reflect) -> String {
    let mut out = String::new();
    value.dump(&mut out);
    out
}

fn random<M: Message + Reflect>(r: &mut Random, version: i16) -> (Bytes, String) {
    let value = M::random(r, version, false);
    let bytes = value.to_bytes(version).expect("a random value has a form in its version");
    (bytes, dumped(&value))
}

fn read<M: Message + Reflect>(bytes: Bytes, version: i16) -> Result<(Bytes, String), DecodeError> {
    let mut d = Decoder::new(bytes);
    let value = M::decode(&mut d, version)?;
    d.finish()?;
    let again = value.to_bytes(version).expect("what was read can be written");
    Ok((again, dumped(&value)))
}

fn decode<M: Message>(bytes: Bytes, version: i16) -> Result<usize, DecodeError> {
    let mut d = Decoder::new(bytes);
    M::decode(&mut d, version)?;
    Ok(d.remaining())
}

fn tree<M: Message + Reflect>(bytes: Bytes, version: i16) -> Result<Tree, DecodeError> {
    let mut d = Decoder::new(bytes);
    let value = M::decode(&mut d, version)?;
    d.finish()?;
    Ok(value.tree())
}

fn convert<M: Message>(bytes: Bytes, from: i16, to: i16) -> Result<Converted, DecodeError> {
    let value = M::decode(&mut Decoder::new(bytes), from)?;
    Ok(value.to_bytes(to))
}
