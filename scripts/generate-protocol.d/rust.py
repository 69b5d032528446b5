"""Rust for one message: structs, their reading and writing."""
import re
import textwrap

from schema import snake

PRIMITIVES = {
    "bool": ("bool", 1), "int8": ("i8", 1), "int16": ("i16", 2), "uint16": ("u16", 2), "int32": ("i32", 4),
    "uint32": ("u32", 4), "int64": ("i64", 8), "float64": ("f64", 8), "uuid": ("Uuid", 16),
}
KEYWORDS = {"type", "match", "where", "ref", "use", "move", "final", "override", "abstract", "self", "in", "as"}
LOCALS = {"d", "ver", "flex", "scope", "unknown_tagged_fields"}


def ident(field):
    name = snake(field.name)
    if name in LOCALS:
        raise ValueError(f"field {name} would hide a local")
    return "r#" + name if name in KEYWORDS else name


def is_sliced(field, message):
    """Records that a broker sends: a list of slices, so that none is copied."""
    return field.element == "records" and message.kind == "response"


def element_type(field, message):
    if field.is_struct:
        return message.by_name[field.element].name
    if field.element == "string":
        return "Str"
    if is_sliced(field, message):
        return "Records"
    if field.element in ("bytes", "records"):
        return "Bytes"
    return PRIMITIVES[field.element][0]


def rust_type(field, message):
    inner = element_type(field, message)
    if field.array:
        inner = f"Vec<{inner}>"
    return f"Option<{inner}>" if field.optional else inner


def default_value(field, message):
    """(Rust expression, whether it is what the type's own Default gives)."""
    if field.optional:
        if field.default == "null" or (field.element == "records" and not field.array):
            return "None", True
        if field.array:
            return "Some(Vec::new())", False
        if field.element == "string":
            return (f'Some(Str::from_static("{field.default}"))' if field.default else "Some(Str::EMPTY)"), False
        if field.element == "bytes":
            return "Some(Bytes::new())", False
        return f"Some({element_type(field, message)}::default())", False
    if field.array:
        return "Vec::new()", True
    if field.element == "string":
        if field.default:
            return f'Str::from_static("{field.default}")', False
        return "Str::EMPTY", True
    if field.element == "bytes":
        return "Bytes::new()", True
    if field.is_struct:
        return f"{element_type(field, message)}::default()", True
    if field.element == "bool":
        value = (field.default or "false").lower()
        return value, value == "false"
    if field.element == "uuid":
        return "Uuid::ZERO", True
    if field.element == "float64":
        value = float(field.default or 0)
        return repr(value), value == 0
    value = int(field.default or "0", 0)
    names = {2**31 - 1: "i32::MAX", -2**31: "i32::MIN", 2**63 - 1: "i64::MAX"}
    return names.get(value, str(value)), value == 0


def is_set(field, message):
    """Condition: the field differs from its default."""
    place = f"self.{ident(field)}"
    value, _ = default_value(field, message)
    if value == "None":
        return f"{place}.is_some()"
    if value in ("Vec::new()", "Str::EMPTY", "Bytes::new()"):
        return f"!{place}.is_empty()"
    if value in ("true", "false"):
        return place if value == "false" else f"!{place}"
    if value in ("Some(Vec::new())", "Some(Str::EMPTY)", "Some(Bytes::new())"):
        return f"{place}.as_ref().is_none_or(|value| !value.is_empty())"
    if field.is_struct and not field.optional:
        return f"{place} != Default::default()"
    return f"{place} != {value}"


def condition(versions, current):
    """Rust for "`ver` is in `versions`", known to be in `current`; None if always so, False if never."""
    both = versions.meet(current)
    if both.empty():
        return False
    low, high = both.lo > current.lo, both.hi < current.hi
    if not low and not high:
        return None
    if low and high:
        if both.lo == both.hi:
            return f"ver == {both.lo}"
        return f"({both.lo}..={both.hi}).contains(&ver)"
    return f"ver >= {both.lo}" if low else f"ver <= {both.hi}"


def negated(found):
    """The opposite of a condition."""
    for one, other in ((" >= ", " < "), (" <= ", " > "), (" == ", " != ")):
        if one in found:
            return found.replace(one, other)
    return "!" + found


def flag(versions, current):
    """The same as a bool expression."""
    found = condition(versions, current)
    return "true" if found is None else "false" if found is False else found


def flexible_flag(field, message, versions):
    if field.flexible is not None and field.flexible.empty():
        return "false"
    found = flag(message.flexible, versions)
    return found if found in ("true", "false") else "flex"


def min_field(field, message, version):
    if not field.versions.has(version) or field.tag is not None:
        return 0
    flexible = message.is_flexible(version) and not (field.flexible is not None and field.flexible.empty())
    if field.array or field.element in ("bytes", "records"):
        return 1 if flexible else 4
    if field.element == "string":
        return 1 if flexible else 2
    if field.is_struct:
        if field.nullable.has(version):
            return 1
        return min_struct(message.by_name[field.element], message, version)
    return PRIMITIVES[field.element][1]


def min_struct(struct, message, version):
    size = sum(min_field(field, message, version) for field in struct.fields)
    return size + (1 if message.is_flexible(version) else 0)


def read_value(field, message, current):
    versions = field.versions.meet(current)
    flex = flexible_flag(field, message, versions)
    null = flag(field.nullable, versions)
    kind = element_type(field, message)
    if field.array:
        if field.is_struct:
            return f"d.opt_structs({flex}, ver, {null})?" if field.optional else f"d.structs({flex}, ver)?"
        return f"d.opt_array({flex}, {null})?" if field.optional else f"d.array({flex})?"
    if field.is_struct:
        if field.optional:
            return "d.opt_tagged_struct(ver)?" if field.tag is not None else f"d.opt_struct(ver, {null})?"
        return f"{kind}::read(d, ver)?"
    if field.element == "string":
        return f"d.opt_string({flex}, {null})?" if field.optional else f"d.string({flex})?"
    if is_sliced(field, message):
        return f"d.opt_records({flex}, {null})?"
    if field.element in ("bytes", "records"):
        return f"d.opt_bytes({flex}, {null})?" if field.optional else f"d.bytes({flex})?"
    return f"d.{PRIMITIVES[field.element][0].lower()}()?"


def write_value(field, message, current):
    versions = field.versions.meet(current)
    flex = flexible_flag(field, message, versions)
    null = flag(field.nullable, versions)
    place = f"self.{ident(field)}"
    name = f'"{ident(field).removeprefix("r#")}"'
    if field.array:
        if field.is_struct:
            if field.optional:
                return f"e.opt_structs(&{place}, {flex}, ver, {null}, {name})?;"
            return f"e.structs(&{place}, {flex}, ver)?;"
        if field.optional:
            return f"e.opt_array(&{place}, {flex}, {null}, {name})?;"
        return f"e.array(&{place}, {flex})?;"
    if field.is_struct:
        if field.optional:
            if field.tag is not None:
                return f"e.opt_tagged_struct(&{place}, ver)?;"
            return f"e.opt_struct(&{place}, ver, {null}, {name})?;"
        return f"{place}.write(e, ver)?;"
    if field.element == "string":
        return f"e.opt_string(&{place}, {flex}, {null}, {name})?;" if field.optional else f"e.string(&{place}, {flex})?;"
    if is_sliced(field, message):
        return f"e.opt_records(&{place}, {flex}, {null}, {name})?;"
    if field.element in ("bytes", "records"):
        return f"e.opt_bytes(&{place}, {flex}, {null}, {name})?;" if field.optional else f"e.bytes(&{place}, {flex})?;"
    return f"e.{PRIMITIVES[field.element][0].lower()}({place});"


def field_doc(field):
    notes = [f"Versions {field.versions}"]
    if field.tag is not None:
        notes.append(f"tag {field.tag}")
    if not field.nullable.empty():
        notes.append("nullable" if field.nullable.contains(field.versions) else f"nullable {field.nullable}")
    if field.default not in (None, "", "false", "0"):
        notes.append(f"default {field.default}")
    if field.map_key:
        notes.append("map key")
    if field.ignorable:
        notes.append("ignorable")
    return "/// " + ", ".join(notes) + "."


def emit_struct(struct, message, out):
    name, current = struct.name, struct.versions
    plain = all(default_value(field, message)[1] for field in struct.fields)
    flexible = condition(message.flexible, current)  # None: always, False: never
    out.append(f"#[derive(Clone, Debug, PartialEq{', Default' if plain else ''})]")
    out.append(f"pub struct {name} {{")
    for field in struct.fields:
        out.append(field_doc(field))
        out.append(f"pub {ident(field)}: {rust_type(field, message)},")
    if flexible is not False:
        out.append("pub unknown_tagged_fields: TaggedFields,")
    out.append("}\n")
    if not plain:
        out.append(f"impl Default for {name} {{ fn default() -> Self {{ Self {{")
        for field in struct.fields:
            out.append(f"{ident(field)}: {default_value(field, message)[0]},")
        if flexible is not False:
            out.append("unknown_tagged_fields: TaggedFields::default(),")
        out.append("} } }\n")

    smallest = min(min_struct(struct, message, version) for version in range(current.lo, current.hi + 1))
    out.append(f"impl Struct for {name} {{ const MIN_SIZE: usize = {smallest};\n")
    emit_read(struct, message, flexible, out)
    emit_write(struct, message, flexible, out)
    out.append("}\n")
    emit_reflect(struct, message, flexible, out)


def any_of(numbers):
    """A pattern for these numbers, which are ascending."""
    if len(numbers) == 1:
        return str(numbers[0])
    if numbers[-1] - numbers[0] + 1 == len(numbers):
        return f"{numbers[0]}..={numbers[-1]}"
    return "(" + " | ".join(map(str, numbers)) + ")"


def emit_read(struct, message, flexible, out):
    current = struct.versions
    body = []
    if flexible:
        body.append(f"let flex = {flexible};")
    tagged = []
    for field in struct.fields:
        default, _ = default_value(field, message)
        name = ident(field)
        present = condition(field.versions, current)
        if field.tag is not None:
            body.append(f"let mut {name} = {default};")
            tagged.append((field, present))
        elif present is False:
            body.append(f"let {name} = {default};")
        elif present is None:
            body.append(f"let {name} = {read_value(field, message, current)};")
        else:
            body.append(f"let {name} = if {present} {{ {read_value(field, message, current)} }} else {{ {default} }};")
    if flexible is not False:
        body.append("let mut unknown_tagged_fields = TaggedFields::default();")
        if flexible is not None:
            body.append("if flex {")
        body.append("for _ in 0..d.tagged_count()? { let scope = d.enter_tagged()?;")
        arms, later = [], []
        for field, present in sorted(tagged, key=lambda pair: pair[0].tag):
            if present is False:
                later.append(field.tag)
                continue
            # The struct is flexible here, which may already say that the field is there.
            guard = condition(field.versions, message.flexible.meet(current))
            guard = f" if {guard}" if guard else ""
            arms.append(f"{field.tag}{guard} => {{ {ident(field)} = {read_value(field, message, current)}; "
                        "d.leave_tagged(scope)?; }")
            if guard:
                later.append(field.tag)
        if arms:
            if later:
                arms.append(f"tag @ {any_of(sorted(later))} => "
                            "return Err(DecodeError::UnexpectedTag { tag, version: ver }),")
            arms.append("_ => d.keep_tagged(scope, &mut unknown_tagged_fields)?,")
            body.append("match scope.tag() { " + "\n".join(arms) + " }")
        else:
            body.append("d.keep_tagged(scope, &mut unknown_tagged_fields)?;")
        body.append("} d.settle_tagged(&mut unknown_tagged_fields)?;")
        if flexible is not None:
            body.append("}")
    names = [ident(field) for field in struct.fields] + (["unknown_tagged_fields"] if flexible is not False else [])
    text = "\n".join(body)
    d = "d" if word(text, "d") else "_"
    ver = "ver" if word(text, "ver") else "_"
    out.append(f"fn read({d}: &mut Decoder, {ver}: i16) -> Result<Self, DecodeError> {{")
    out.append(text)
    out.append("Ok(Self { " + ", ".join(names) + " })")
    out.append("}\n")


def word(text, name):
    return re.search(rf"\b{name}\b", text) is not None


def emit_write(struct, message, flexible, out):
    current = struct.versions
    body = []
    if flexible:
        body.append(f"let flex = {flexible};")
    tagged = []
    for field in struct.fields:
        present = condition(field.versions, current)
        refusal = f'return Err(EncodeError::UnsupportedField {{ field: "{ident(field).removeprefix("r#")}", version: ver }});'
        if field.tag is not None:
            tagged.append(field)
            if present is not None and not field.ignorable:
                absent = f"{negated(present)} && " if present else ""
                body.append(f"if {absent}{is_set(field, message)} {{ {refusal} }}")
            continue
        check = "" if field.ignorable else f"if {is_set(field, message)} {{ {refusal} }}"
        if present is False:
            body.append(check)
        elif present is None:
            body.append(write_value(field, message, current))
        elif check:
            body.append(f"if {present} {{ {write_value(field, message, current)} }} else {check}")
        else:
            body.append(f"if {present} {{ {write_value(field, message, current)} }}")
    if flexible is not False:
        if flexible is not None:
            body.append("if !flex { if !self.unknown_tagged_fields.is_empty() { "
                        "return Err(EncodeError::TaggedFieldsUnsupported { version: ver }); } return Ok(()); }")
        fields = []
        for field in sorted(tagged, key=lambda field: field.tag):
            present = condition(field.versions, message.flexible.meet(current))
            if present is False:
                continue
            guard = is_set(field, message)
            fields.append((field, f"{present} && {guard}" if present else guard))
        if not fields:
            body.append("e.varint(self.unknown_tagged_fields.len() as u32);")
            body.append("e.unknown_tagged(&self.unknown_tagged_fields, 0, None)?;")
        else:
            body.append("let mut count = self.unknown_tagged_fields.len() as u32;")
            for field, guard in fields:
                body.append(f"if {guard} {{ count += 1; }}")
            body.append("e.varint(count);")
            body.append("let unknown = &self.unknown_tagged_fields; let mut next = 0;")
            for field, guard in fields:
                body.append(f"next = e.unknown_tagged(unknown, next, Some({field.tag}))?;")
                body.append(f"if {guard} {{ let mark = e.begin_tagged({field.tag}); "
                            f"{write_value(field, message, current)} e.end_tagged(mark)?; }}")
            body.append("e.unknown_tagged(unknown, next, None)?;")
    text = "\n".join(body)
    e = "e" if word(text, "e") else "_"
    ver = "ver" if word(text, "ver") else "_"
    out.append(f"fn write(&self, {e}: &mut Encoder, {ver}: i16) -> Result<(), EncodeError> {{")
    out.append(text)
    out.append("Ok(())")
    out.append("}\n")


def span(versions, current):
    both = versions.meet(current)
    return "1, 0" if both.empty() else f"{both.lo}, {both.hi}"


def emit_reflect(struct, message, flexible, out):
    fields = []
    for field in struct.fields:
        fields.append(f"{ident(field)}({span(field.versions, struct.versions)}, "
                      f"{span(field.nullable.meet(field.versions), struct.versions)})")
    if flexible is not False:
        fields.append(f"unknown_tagged_fields({span(message.flexible, struct.versions)}, 1, 0)")
    # rustfmt leaves macros with braces inside alone.
    lines = textwrap.wrap(", ".join(fields), 110)
    out.append(f"reflect!({struct.name} {{\n    " + "\n    ".join(lines) + "\n});\n")


def emit_message(message, version, response=None, api=None):
    """The text of one message's module."""
    out = [f"// Generated by scripts/generate-protocol from {message.path} of {message.artifact} {version}. Do not edit.\n"]
    body = []
    for struct in message.structs:
        emit_struct(struct, message, body)
        if struct is message.root:
            start = "None" if message.flexible.empty() else f"Some({message.flexible.lo})"
            body.append(f'impl Message for {struct.name} {{ const NAME: &\'static str = "{message.name}";')
            body.append(f"const MIN_VERSION: i16 = {message.valid.lo}; const MAX_VERSION: i16 = {message.valid.hi};")
            body.append(f"const FLEXIBLE_FROM: Option<i16> = {start};")
            if any(ident(field) == "throttle_time_ms" for field in struct.fields):
                body.append("\nfn throttle_time_ms(&mut self) -> Option<&mut i32> { Some(&mut self.throttle_time_ms) }")
            body.append("}\n")
            if response:
                body.append(f"impl Request for {struct.name} {{ const API_KEY: ApiKey = ApiKey::{api};")
                body.append(f"type Response = crate::messages::{response}; }}\n")
    text = "\n".join(body)
    if word(text, "Bytes"):
        out.append("use bytes::Bytes;\n")
    out.append("use crate::prelude::*;\n")
    return "\n".join(out) + "\n" + text
