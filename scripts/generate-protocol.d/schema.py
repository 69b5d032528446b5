"""Kafka's message schemas as objects: versions, types, fields, structs."""
import re

MAX = 32767


class Versions:
    """A range of versions, `lo..=hi`; empty if lo > hi."""

    def __init__(self, lo, hi):
        self.lo, self.hi = lo, hi

    @staticmethod
    def parse(text, otherwise=None):
        if text is None:
            return otherwise
        text = text.strip()
        if text == "none":
            return Versions(1, 0)
        if text.endswith("+"):
            return Versions(int(text[:-1]), MAX)
        lo, _, hi = text.partition("-")
        return Versions(int(lo), int(hi or lo))

    def empty(self):
        return self.lo > self.hi

    def meet(self, other):
        return Versions(max(self.lo, other.lo), min(self.hi, other.hi))

    def contains(self, other):
        return other.empty() or (self.lo <= other.lo and other.hi <= self.hi)

    def has(self, version):
        return self.lo <= version <= self.hi

    def __str__(self):
        if self.empty():
            return "none"
        if self.hi == MAX:
            return f"{self.lo}+"
        return str(self.lo) if self.lo == self.hi else f"{self.lo}-{self.hi}"


NONE = Versions(1, 0)


def snake(name):
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def pascal(name):
    """UPPER_SNAKE to UpperCamel."""
    return "".join(part.capitalize() for part in name.split("_"))


class Field:
    def __init__(self, spec, message):
        self.name = spec["name"]
        self.type = spec["type"]
        self.array = self.type.startswith("[]")
        self.element = self.type[2:] if self.array else self.type
        self.is_struct = self.element[0].isupper()
        tagged = Versions.parse(spec.get("taggedVersions"), NONE)
        self.versions = Versions.parse(spec.get("versions"), tagged)
        self.tag = spec.get("tag")
        if self.tag is not None and not (tagged.lo == self.versions.lo and tagged.hi == self.versions.hi):
            raise ValueError(f"{message.name}.{self.name}: tagged in some versions only")
        self.nullable = Versions.parse(spec.get("nullableVersions"), NONE)
        self.ignorable = spec.get("ignorable", False)
        self.map_key = spec.get("mapKey", False)
        # A JSON null is no default, the text "null" is one.
        default = spec.get("default")
        self.default = None if default is None else str(default)
        self.flexible = Versions.parse(spec.get("flexibleVersions"))
        self.fields = spec.get("fields")

    @property
    def optional(self):
        return not self.nullable.empty() or self.element == "records"


class Struct:
    """One struct: its Rust name, the versions it lives in and its fields."""

    def __init__(self, name, versions, fields):
        self.name, self.versions, self.fields = name, versions, fields


class Message:
    def __init__(self, artifact, path, spec):
        self.artifact, self.path = artifact, path
        self.name = spec["name"]
        self.kind = spec["type"]
        self.api_key = spec.get("apiKey")
        self.listeners = spec.get("listeners", [])
        self.valid = Versions.parse(spec["validVersions"])
        self.unstable = spec.get("latestVersionUnstable", False)
        self.flexible = Versions.parse(spec.get("flexibleVersions"), NONE)
        self.structs = []
        self.by_name = {}
        if self.valid.empty():
            return
        common = {struct["name"]: struct for struct in spec.get("commonStructs", [])}
        for name, struct in common.items():
            self._add(name, self.valid.meet(Versions.parse(struct["versions"])), struct["fields"])
        self.root = self._add(None, self.valid, spec.get("fields", []), self.name)

    def rust_name(self, struct):
        return struct if struct.startswith(self.name) else self.name + struct

    def _add(self, name, versions, specs, rust_name=None):
        fields = [Field(spec, self) for spec in specs]
        struct = Struct(rust_name or self.rust_name(name), versions, fields)
        self.structs.insert(0, struct)
        if name is not None:
            if name in self.by_name:
                raise ValueError(f"{self.name}: two structs {name}")
            self.by_name[name] = struct
        for field in reversed(fields):
            if field.is_struct and field.fields is not None:
                self._add(field.element, versions.meet(field.versions), field.fields)
        return struct

    def is_flexible(self, version):
        return self.flexible.has(version)
