"""Rust for what is one list for all messages: API keys, error codes, dispatch."""
from error_text import TEXT
from schema import pascal

RECORD_DOCS = {
    "group": "//! Records of the group coordinator (`__consumer_offsets`).\n",
    "transaction": "//! Records of the transaction coordinator (`__transaction_state`).\n",
    "share": "//! Records of the share coordinator (`__share_group_state`).\n",
    "metadata": "//! Records of the metadata log (`__cluster_metadata`).\n",
    "remote_log": "//! Records of tiered storage (`__remote_log_metadata`).\n",
    "data": "//! Structs with a version of their own: consumer protocol, control records, snapshots.\n",
}


def api_name(message):
    return message.name.removesuffix("Request")


def api_keys(requests):
    out = ["//! [`ApiKey`]: the APIs of this Kafka, their versions and listeners.\n",
           "use std::ops::RangeInclusive;\n", "use crate::DecodeError;\n",
           "/// An API, by its number on the wire.",
           "#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]", "#[repr(u16)]", "pub enum ApiKey {"]
    out += [f"{api_name(m)} = {m.api_key}," for m in requests]
    out.append("}\n")
    out.append("""/// Where Kafka serves an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener { Broker, Controller }

struct Api { name: &'static str, min: i16, max: i16, flexible: Option<i16>, listeners: &'static [Listener] }

use Listener::{Broker, Controller};

impl ApiKey {
    /// All APIs, ascending.
    pub const ALL: &'static [ApiKey] = &[""")
    out += [f"ApiKey::{api_name(m)}," for m in requests]
    out.append("""];

    const fn api(self) -> &'static Api { match self {""")
    for m in requests:
        # The newest version of some APIs is still being worked on; Kafka does not serve it.
        last = m.valid.hi - (1 if m.unstable else 0)
        flexible = "None" if m.flexible.empty() else f"Some({m.flexible.lo})"
        listeners = ", ".join(name.capitalize() for name in sorted(m.listeners))
        out.append(f'ApiKey::{api_name(m)} => &Api {{ name: "{api_name(m)}", min: {m.valid.lo}, max: {last}, '
                   f"flexible: {flexible}, listeners: &[{listeners}] }},")
    out.append("""} }

    /// The number on the wire.
    pub const fn key(self) -> i16 { self as u16 as i16 }

    /// Kafka's name, without "Request".
    pub const fn name(self) -> &'static str { self.api().name }

    /// The versions that Kafka serves. The schemas may know one more that is not finished.
    pub const fn valid_versions(self) -> RangeInclusive<i16> { let api = self.api(); api.min..=api.max }

    /// What an ApiVersions response says: as [`ApiKey::valid_versions`], but Produce from 0 on, without which older
    /// librdkafka turns compression off (KAFKA-18659).
    pub fn advertised_versions(self) -> RangeInclusive<i16> {
        let api = self.api();
        if self == ApiKey::Produce { 0..=api.max } else { api.min..=api.max }
    }

    /// The first version with compact lengths and tagged fields.
    pub const fn flexible_from(self) -> Option<i16> { self.api().flexible }

    pub const fn listeners(self) -> &'static [Listener] { self.api().listeners }

    /// 1, or 2 for flexible versions, of unknown later versions too.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.api().flexible.is_some_and(|from| version >= from) { 2 } else { 1 }
    }

    /// 0, or 1 for flexible versions; always 0 for ApiVersions, whose client cannot know better yet.
    pub fn response_header_version(self, version: i16) -> i16 {
        if self == ApiKey::ApiVersions { 0 } else { self.request_header_version(version) - 1 }
    }
}

impl TryFrom<i16> for ApiKey {
    type Error = DecodeError;

    fn try_from(key: i16) -> Result<ApiKey, DecodeError> {
        match key {""")
    out += [f"{m.api_key} => Ok(ApiKey::{api_name(m)})," for m in requests]
    out.append("_ => Err(DecodeError::UnknownApiKey(key)), } } }\n")
    out.append("""impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(self.name()) }
}""")
    return "\n".join(out)


def error_codes(rows):
    out = ["//! [`ErrorCode`]: Kafka's error codes.\n",
           "/// An error on the wire. Codes that this build does not know count as `UnknownServerError`.",
           "#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]", "#[repr(i16)]",
           "pub enum ErrorCode {"]
    out += [f"{pascal(name)} = {code}," for code, name, _ in rows]
    out.append("}\n")
    out.append("""impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 { self as i16 }

    /// The error of that number, if there is one.
    pub fn from_code(code: i16) -> Option<ErrorCode> { Some(match code {""")
    out += [f"{code} => ErrorCode::{pascal(name)}," for code, name, _ in rows]
    out.append("""_ => return None, }) }

    pub fn is_error(self) -> bool { self != ErrorCode::None }

    /// Whether Kafka's clients try again by themselves.
    pub fn retriable(self) -> bool { matches!(self, """)
    out.append(" | ".join(f"ErrorCode::{pascal(name)}" for _, name, retriable in rows if retriable))
    out.append(""") }

    /// Kafka's name: upper case with underscores.
    pub fn name(self) -> &'static str { match self {""")
    out += [f'ErrorCode::{pascal(name)} => "{name}",' for _, name, _ in rows]
    out.append("""} }

    /// A sentence for people.
    pub fn message(self) -> &'static str { match self {""")
    missing = sorted(set(name for _, name, _ in rows) ^ set(TEXT))
    if missing:
        raise ValueError(f"error_text.py and Kafka's errors differ: {missing}")
    out += [f'ErrorCode::{pascal(name)} => "{TEXT[name]}",' for _, name, _ in rows]
    out.append("""} } }

impl From<i16> for ErrorCode {
    fn from(code: i16) -> ErrorCode { ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError) }
}

impl From<ErrorCode> for i16 {
    fn from(error: ErrorCode) -> i16 { error.code() }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(self.name()) }
}

impl std::error::Error for ErrorCode {}""")
    return "\n".join(out)


def kinds(requests):
    names = [api_name(m) for m in requests]
    out = ["//! Any request, any response: for dispatch, tests and fuzzing.\n",
           "use super::*;", "use crate::prelude::*;", "use crate::ApiKey;\n"]
    for what in ("Request", "Response"):
        article = "Any request" if what == "Request" else "Any response"
        out.append(f"/// {article}, by its API.")
        out.append("#[allow(clippy::large_enum_variant)]")
        out.append("#[derive(Clone, Debug, PartialEq)]")
        out.append(f"pub enum {what}Kind {{")
        out += [f"{name}({name}{what})," for name in names]
        out.append("}\n")
        out.append(f"""impl {what}Kind {{
    pub fn api_key(&self) -> ApiKey {{ match self {{""")
        out += [f"{what}Kind::{name}(_) => ApiKey::{name}," for name in names]
        out.append("} }\n")
        out.append("    /// Reads the body, which follows the header.")
        out.append("    pub fn decode(api: ApiKey, d: &mut Decoder, version: i16) -> Result<Self, DecodeError> {")
        out.append("Ok(match api {")
        out += [f"ApiKey::{name} => Self::{name}({name}{what}::decode(d, version)?)," for name in names]
        out.append("}) }\n")
        out.append("    pub fn encode(&self, e: &mut Encoder, version: i16) -> Result<(), EncodeError> {")
        out.append("match self {")
        out += [f"Self::{name}(message) => message.encode(e, version)," for name in names]
        out.append("} } }\n")
        for name in names:
            out.append(f"impl From<{name}{what}> for {what}Kind {{ "
                       f"fn from(message: {name}{what}) -> Self {{ Self::{name}(message) }} }}\n")
    return "\n".join(out)


def record_kinds(module, messages):
    if module in ("group", "transaction", "share"):
        return coordinator_kinds(messages, module.capitalize())
    if module in ("metadata", "remote_log"):
        return metadata_kinds(messages, "MetadataRecord" if module == "metadata" else "RemoteLogRecord")
    return None


def coordinator_kinds(messages, prefix):
    keys = sorted((m for m in messages if m.kind == "coordinator-key"), key=lambda m: m.api_key)
    values = {m.api_key: m for m in messages if m.kind == "coordinator-value"}
    for key in keys:
        if (key.valid.lo, key.valid.hi) != (0, 0):
            raise ValueError(f"{key.name}: a key with versions")
    variants = [(key.name.removesuffix("Key"), key, values[key.api_key]) for key in keys]
    out = ["//! Keys and values by record type.\n", "use super::*;", "use crate::prelude::*;",
           "use crate::record_frame::{CoordinatorKey, decode_versioned, encode_versioned};",
           "use bytes::Bytes;\n"]
    for name, key, value in variants:
        out.append(f"impl CoordinatorKey for {key.name} {{ const RECORD_TYPE: i16 = {key.api_key}; "
                   f"type Value = {value.name}; }}\n")
    out.append(f"/// Any key: two bytes with the record type, then the fields.")
    out.append(f"#[derive(Clone, Debug, PartialEq)]\npub enum {prefix}RecordKey {{")
    out += [f"{name}({key.name})," for name, key, _ in variants]
    out.append("}\n")
    out.append(f"impl {prefix}RecordKey {{ pub fn record_type(&self) -> i16 {{ match self {{")
    out += [f"Self::{name}(_) => {key.api_key}," for name, key, _ in variants]
    out.append("""} }

    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut d = Decoder::new(bytes);
        let key = match d.i16()? {""")
    out += [f"{key.api_key} => Self::{name}({key.name}::decode(&mut d, 0)?)," for name, key, _ in variants]
    out.append("""other => return Err(DecodeError::UnknownRecordType(other)), };
        Ok(key)
    }

    pub fn encode(&self) -> Result<Bytes, EncodeError> { match self {""")
    out += [f"Self::{name}(key) => key.to_key_bytes()," for name, _, _ in variants]
    out.append("} } }\n")
    out.append("/// Any value: two bytes with the version, then the fields. Its type is that of its key.")
    out.append(f"#[allow(clippy::large_enum_variant)]\n#[derive(Clone, Debug, PartialEq)]\npub enum {prefix}RecordValue {{")
    out += [f"{name}({value.name})," for name, _, value in variants]
    out.append("}\n")
    out.append(f"""impl {prefix}RecordValue {{
    /// The value and the version it was written in.
    pub fn decode(record_type: i16, bytes: Bytes) -> Result<(Self, i16), DecodeError> {{
        match record_type {{""")
    out += [f"{key.api_key} => decode_versioned(bytes).map(|(value, version)| (Self::{name}(value), version)),"
            for name, key, _ in variants]
    out.append("""other => Err(DecodeError::UnknownRecordType(other)), } }

    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> { match self {""")
    out += [f"Self::{name}(value) => encode_versioned(value, version)," for name, _, _ in variants]
    out.append("} } }\n")
    return "\n".join(out)


def metadata_kinds(messages, enum):
    records = sorted((m for m in messages if m.api_key is not None), key=lambda m: m.api_key)
    names = [(m.name.removesuffix("Record"), m) for m in records]
    out = ["//! Records by type, in Kafka's metadata frame.\n", "use super::*;", "use crate::prelude::*;",
           "use crate::record_frame::{read_metadata_frame, write_metadata_frame};", "use bytes::Bytes;\n",
           "/// Any record: frame version, record type and version as varints, then the fields.",
           f"#[allow(clippy::large_enum_variant)]\n#[derive(Clone, Debug, PartialEq)]\npub enum {enum} {{"]
    out += [f"{name}({m.name})," for name, m in names]
    out.append("}\n")
    out.append(f"impl {enum} {{ pub fn record_type(&self) -> i16 {{ match self {{")
    out += [f"Self::{name}(_) => {m.api_key}," for name, m in names]
    out.append("""} }

    /// The newest version that this build writes.
    pub fn max_version(&self) -> i16 { match self {""")
    out += [f"Self::{name}(_) => {m.name}::MAX_VERSION," for name, m in names]
    out.append("""} }

    /// The record and the version it was written in.
    pub fn decode(bytes: Bytes) -> Result<(Self, i16), DecodeError> {
        let mut d = Decoder::new(bytes);
        let (record_type, version) = read_metadata_frame(&mut d)?;
        let record = match record_type {""")
    out += [f"{m.api_key} => Self::{name}({m.name}::decode(&mut d, version)?)," for name, m in names]
    out.append("""other => return Err(DecodeError::UnknownRecordType(other)), };
        d.finish()?;
        Ok((record, version))
    }

    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut e = Encoder::new();
        write_metadata_frame(&mut e, self.record_type(), version);
        match self {""")
    out += [f"Self::{name}(record) => record.encode(&mut e, version)?," for name, m in names]
    out.append("} Ok(e.into_bytes()) } }\n")
    for name, m in names:
        out.append(f"impl From<{m.name}> for {enum} {{ fn from(record: {m.name}) -> Self {{ Self::{name}(record) }} }}\n")
    return "\n".join(out)


def schemas(messages):
    """`SCHEMAS`: (Rust path, Java class) of every message."""
    out = ["//! [`SCHEMAS`]: every message there is, with its type erased.\n",
           "use crate::reflect::{Schema, schema};\n",
           "/// Every request, response, header and record.",
           "pub const SCHEMAS: &[Schema] = &["]
    out += [f'schema::<crate::{path}>("{java}"),' for path, java in messages]
    out.append("];")
    return "\n".join(out)
