"""Upstream's attribute actions (`insert`, `update`, `upsert`, `delete`, `hash`, `extract`, `convert`), compiled.

The processors `resource` and `attributes` share them. They work on the KeyValue messages of one set of attributes as bytes:
a value that only moves is not decoded, so its type and unknown fields stay. `tests/reference/attribute_actions.py` is the
plain twin on Google's messages. Upstream: internal/coreinternal/attraction.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig
from kofagent.config.re2 import compile_re2, compile_search
from kofagent.telemetry.batch import Metadata
from kofagent.transform.anyvalue import as_string
from kofagent.transform.attribute_keys import keys_of
from kofagent.wire import edit
from kofagent.wire.attributes import decode_attribute, decode_text, encode_attribute, encode_text, encode_value
from kofagent.wire.lens import lenses, parse
from kofagent.wire.varint import length_delimited

_KeyValue = lenses("kofagent.actions", {"KeyValue": {"key": (1, "bytes"), "value": (2, "bytes")}})["KeyValue"]
_INTEGER = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE)
_VALUED = ("insert", "update", "upsert")


def _either_case(schema: dict[str, Any]) -> None:
    """Upstream accepts actions in lower and upper case."""
    schema["enum"] = [*schema["enum"], *(word.upper() for word in schema["enum"])]


class ActionBlock(ComponentConfig):
    """One action."""

    key: str = Field("", description="Attribute to change.")
    value: Any = Field(None, description="Value; its YAML type is kept.")
    default_value: Any = Field(None, description="Value used if from_attribute or from_context finds none.")
    from_attribute: str = Field("", description="Attribute whose value is copied.")
    from_context: str = Field("", description="metadata.<header> of the request; several values are joined with `;`.")
    pattern: str = Field("", description="RE2 pattern: of keys (delete, hash) or with named groups (extract).")
    converted_type: str = Field("", description="int, double or string (convert).")
    action: Literal["insert", "update", "upsert", "delete", "hash", "extract", "convert"] = Field(
        description="What is done.", json_schema_extra=_either_case
    )

    @field_validator("action", mode="before")
    @classmethod
    def _lower_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fields_fit(self) -> ActionBlock:
        sources = [n for n in ("value", "from_attribute", "from_context") if getattr(self, n) not in (None, "")]
        if self.value == "":
            sources.append("value")
        action = self.action
        if not self.key and not (action in ("delete", "hash") and self.pattern):
            raise ValueError(f"{action} needs key" + (" or pattern" if action in ("delete", "hash") else ""))
        if action in _VALUED:
            if len(sources) > 1:
                raise ValueError(f"{action} of {self.key!r} has {' and '.join(sources)}; keep one of them")
            if not sources and self.default_value is None:
                raise ValueError(f"{action} of {self.key!r} needs one of value, from_attribute, from_context, default_value")
            for name in ("value", "default_value"):
                _check_value(getattr(self, name))
            if self.from_context.startswith("auth.") or self.from_context == "client.address":
                raise ValueError(f"from_context {self.from_context!r} is not supported; use metadata.<header>")
        elif sources:
            raise ValueError(f"{action} does not use {' or '.join(sources)}; remove it")
        if self.pattern and action not in ("delete", "hash", "extract"):
            raise ValueError(f"{action} does not use pattern; remove it")
        if self.converted_type and action != "convert":
            raise ValueError(f"{action} does not use converted_type; remove it")
        if action == "convert" and self.converted_type not in ("int", "double", "string"):
            raise ValueError(f"convert needs converted_type int, double or string, not {self.converted_type!r}")
        if self.pattern:
            compiled = compile_re2(self.pattern)
            if action == "extract" and not 0 < compiled.groups == len(compiled.groupindex):
                raise ValueError("the pattern of extract needs groups, and all of them must be named, as in (?P<name>...)")
        elif action == "extract":
            raise ValueError("extract needs pattern")
        return self


def _check_value(value: Any) -> None:
    try:
        encode_value(value)
    except ValueError as error:
        raise ValueError(f"value cannot be an attribute: {error}") from None


class _Attributes:
    """One set of attributes while actions run on it; of equal keys the first one counts, as upstream's map has it."""

    __slots__ = ("keys", "metadata", "pairs")

    def __init__(self, pairs: list[bytes], metadata: Metadata | None) -> None:
        self.pairs = pairs
        self.keys = keys_of(pairs)
        self.metadata = metadata

    def put(self, key: bytes, pair: bytes) -> None:
        if key in self.keys:
            self.pairs[self.keys.index(key)] = pair
        else:
            self.keys.append(key)
            self.pairs.append(pair)

    def remove(self, at: int) -> None:
        del self.keys[at], self.pairs[at]


_Action = Callable[[_Attributes], None]
_Source = Callable[[_Attributes], bytes | None]
"""The KeyValue message that is to be put, None when there is no value."""


class Actions:
    """Actions in their order. `needs_metadata` names the request headers they read, in lower case."""

    def __init__(self, actions: Sequence[ActionBlock]) -> None:
        self._actions = [_compile(action) for action in actions]
        self._lines = [_in_words(action) for action in actions]
        self.needs_metadata = tuple(sorted({_header(a.from_context) for a in actions if a.from_context}))

    def explain(self) -> str:
        """The actions in words, one line each."""
        return "".join([f"{line}\n" for line in self._lines])

    def apply(self, message: bytes, field: int, metadata: Metadata | None = None) -> bytes:
        """The message with its attributes (field number `field`) changed; the same object when nothing changed.

        ValueError where the message is malformed.
        """
        old = edit.attributes(message, field)
        attributes = _Attributes(list(old), metadata)
        for action in self._actions:
            action(attributes)
        new = attributes.pairs
        # hot: otlp_attributes, 7 us a span end to end with an upsert and six more: what is only added is written after the rest
        if len(new) >= len(old) and new[: len(old)] == old:
            return message if len(new) == len(old) else edit.append_attributes(message, field, new[len(old) :])
        return edit.with_attributes(message, field, new)


def _in_words(block: ActionBlock) -> str:
    what: list[str] = [block.action, block.key] if block.key else [block.action]
    if block.value is not None:
        what.append(f"= {block.value!r}")
    for word, value in (
        ("from attribute", block.from_attribute),
        ("from context", block.from_context),
        ("to", block.converted_type),
    ):
        if value:
            what.append(f"{word} {value}")
    if block.pattern:
        what.append(("by pattern" if block.action == "extract" else "keys like") + f" {block.pattern!r}")
    if block.default_value is not None:
        what.append(f"else {block.default_value!r}")
    return " ".join(what)


def _header(from_context: str) -> str:
    return from_context.removeprefix("metadata.").lower()


def _compile(block: ActionBlock) -> _Action:
    if block.action in _VALUED:
        return _valued(block)
    return {"delete": _delete, "hash": _hash, "extract": _extract, "convert": _convert}[block.action](block)


def _source(block: ActionBlock) -> _Source:
    key = encode_text(block.key)
    default = None if block.default_value is None else encode_attribute(block.key, block.default_value)
    if block.value is not None:
        constant = encode_attribute(block.key, block.value)
        return lambda attributes: constant
    if block.from_context:
        header = _header(block.from_context)

        def context(attributes: _Attributes) -> bytes | None:
            values = (attributes.metadata or {}).get(header)
            return encode_attribute(block.key, ";".join(values)) if values else default

        return context
    wanted = encode_text(block.from_attribute)
    prefix = length_delimited(1, key)

    def attribute(attributes: _Attributes) -> bytes | None:
        if not wanted or wanted not in attributes.keys:
            return default
        return prefix + length_delimited(2, parse(_KeyValue, attributes.pairs[attributes.keys.index(wanted)]).value)

    return attribute


def _valued(block: ActionBlock) -> _Action:
    key, source = encode_text(block.key), _source(block)
    when_present, when_absent = block.action != "insert", block.action != "update"

    def put(attributes: _Attributes) -> None:
        if not (when_present if key in attributes.keys else when_absent):
            return
        pair = source(attributes)
        if pair is not None:
            attributes.put(key, pair)

    return put


def _keys(block: ActionBlock) -> Callable[[_Attributes], list[int]]:
    """Where the keys are that `key` names (the first) or `pattern` matches (all)."""
    key = encode_text(block.key)
    search = compile_search(block.pattern) if block.pattern else None

    def find(attributes: _Attributes) -> list[int]:
        found = [attributes.keys.index(key)] if key in attributes.keys else []
        if search is not None:
            found += [i for i, k in enumerate(attributes.keys) if i not in found and search(decode_text(k))]
        return found

    return find


def _delete(block: ActionBlock) -> _Action:
    find = _keys(block)

    def delete(attributes: _Attributes) -> None:
        for at in sorted(find(attributes), reverse=True):
            attributes.remove(at)

    return delete


def _hash(block: ActionBlock) -> _Action:
    find = _keys(block)
    key = encode_text(block.key)
    twice = bool(block.key and block.pattern and compile_search(block.pattern)(block.key))

    def hash(attributes: _Attributes) -> None:
        for at in find(attributes):
            name, value = decode_attribute(attributes.pairs[at])
            attributes.pairs[at] = encode_attribute(name, hashed(value))
        # Upstream hashes a key that both `key` and `pattern` name twice.
        if twice and key in attributes.keys:
            at = attributes.keys.index(key)
            attributes.pairs[at] = encode_attribute(block.key, hashed(decode_attribute(attributes.pairs[at])[1]))

    return hash


def hashed(value: Any) -> str:
    """SHA-256 in hex of a string's UTF-8, a bool's byte, or the 8 little-endian bytes of a number; empty for other types."""
    if isinstance(value, str):
        data = encode_text(value)
    elif isinstance(value, bool):
        data = b"\x01" if value else b"\x00"
    elif isinstance(value, int):
        data = struct.pack("<q", value)
    elif isinstance(value, float):
        data = struct.pack("<d", value)
    else:
        return ""
    return hashlib.sha256(data).hexdigest()


def _extract(block: ActionBlock) -> _Action:
    key, expression, search = encode_text(block.key), compile_re2(block.pattern), compile_search(block.pattern)
    names = sorted(expression.groupindex, key=expression.groupindex.__getitem__)

    def extract(attributes: _Attributes) -> None:
        if key not in attributes.keys:
            return
        value = decode_attribute(attributes.pairs[attributes.keys.index(key)])[1]
        match = search(value) if isinstance(value, str) else None
        if match is not None:
            for name, text in zip(names, match.groups(), strict=True):
                attributes.put(encode_text(name), encode_attribute(name, text or ""))

    return extract


def _convert(block: ActionBlock) -> _Action:
    key = encode_text(block.key)

    def convert(attributes: _Attributes) -> None:
        if key in attributes.keys:
            at = attributes.keys.index(key)
            old = decode_attribute(attributes.pairs[at])[1]
            new = converted(old, block.converted_type)
            if new is not old:
                attributes.pairs[at] = encode_attribute(block.key, new)

    return convert


def converted(value: Any, to: str) -> Any:
    """`value` as `int`, `double` or `string`; the same object where it cannot be converted or is that already."""
    if to == "string":
        return value if isinstance(value, str) else as_string(value)
    if isinstance(value, bool):
        return int(value) if to == "int" else float(value)
    if to == "int":
        if isinstance(value, float):
            # Go's conversion of what does not fit is the processor's; x86 gives the smallest integer.
            return int(value) if -(2.0**63) <= value < 2.0**63 else -(1 << 63)
        if isinstance(value, str) and _INTEGER.fullmatch(value) and -(1 << 63) <= int(value) < 1 << 63:
            return int(value)
    elif isinstance(value, int) or (isinstance(value, str) and _FLOAT.fullmatch(value)):
        return float(value)
    return value
