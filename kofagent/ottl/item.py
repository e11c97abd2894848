"""An item as the bytes it came in: what compiled statements read and change, decoding no more than that.

Attributes are found by their bytes. A key whose text is nowhere in the item is not there, which needs no decoding at all; one that
is new is added to the end; one that changes or goes is cut out where it stands. All other bytes stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from kofagent.ottl.messages import read
from kofagent.ottl.types import index, stored
from kofagent.ottl.types import put as put_in
from kofagent.transform.anyvalue import to_python, write
from kofagent.wire import edit
from kofagent.wire.attributes import attribute_key
from kofagent.wire.lens import lenses, parse
from kofagent.wire.varint import varint

_Pair = lenses("kofagent.ottl.pair", {"KeyValue": {"key": (1, "bytes"), "value": (2, "bytes")}})["KeyValue"]

FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "log": {
        "time_unix_nano": (1, "fixed64"),
        "observed_time_unix_nano": (11, "fixed64"),
        "severity_number": (2, "int32"),
        "severity_text": (3, "bytes"),
        "body": (5, "bytes"),
        "flags": (8, "fixed32"),
        "trace_id": (9, "bytes"),
        "span_id": (10, "bytes"),
        "event_name": (12, "bytes"),
    },
    "span": {
        "trace_id": (1, "bytes"),
        "span_id": (2, "bytes"),
        "parent_span_id": (4, "bytes"),
        "name": (5, "bytes"),
        "kind": (6, "int32"),
        "start_time_unix_nano": (7, "fixed64"),
        "end_time_unix_nano": (8, "fixed64"),
        "status": (15, "Status"),
    },
    "metric": {"name": (1, "bytes"), "description": (2, "bytes"), "unit": (3, "bytes")},
    "datapoint": {},
}
"""The fields of an item beside its attributes that compiled statements know."""
_STATUS: dict[str, dict[str, tuple[int, str]]] = {"Status": {"code": (3, "int32")}}


@cache
def lens(context: str, fields: frozenset[str], number: int) -> Any:
    """The class that shows these fields of an item, and its attributes, which have this number."""
    name = f"kofagent.ottl.{context}{number}.{'_'.join(sorted(fields)) or 'nothing'}"
    shown = {field: FIELDS[context][field] for field in fields}
    shown["attributes"] = (number, "*bytes")
    return lenses(name, {"Item": shown, **(_STATUS if "status" in fields else {})})["Item"]


FEW = 32
"""More entries are merged by a table of the keys."""


_SIZES = [bytes((size,)) for size in range(128)]


def head(key: bytes) -> bytes:
    """How the KeyValue of a key begins."""
    size = len(key)
    return b"\n" + (_SIZES[size] if size < 128 else varint(size)) + key


def encoded(value: Any) -> bytes:
    """The AnyValue of a value of the language. EvaluationError where attributes have none such."""
    if isinstance(value, str):
        try:
            data = value.encode()
        except UnicodeEncodeError:
            pass
        else:
            size = len(data)
            return b"\n" + (_SIZES[size] if size < 128 else varint(size)) + data
    message = AnyValue()
    write(message, stored(value))
    return message.SerializeToString()


def decoded(data: bytes) -> Any:
    """The value of an AnyValue."""
    if not data:
        return None
    if data[0] == 10 and len(data) > 1 and data[1] < 128 and len(data) == data[1] + 2:
        return data[2:].decode("utf-8", "replace")
    return to_python(read("value", data))


def _pair(head: bytes, value: bytes) -> bytes:
    """The KeyValue with this beginning and AnyValue."""
    size = len(value)
    return head + b"\x12" + (_SIZES[size] if size < 128 else varint(size)) + value


def _odd(pair: bytes) -> bool:
    """Whether the KeyValue begins as no known writer begins it (without its key, the length of which is one byte)."""
    return len(pair) < 2 or pair[0] != 10 or pair[1] > 127


class Item:
    """One item. `r` are its bytes as they are now, `a` its KeyValues once somebody has asked for them, `v` its view."""

    __slots__ = ("a", "cache", "late", "r", "v")

    field: ClassVar[int]
    """The number of the attributes."""
    tag: ClassVar[bytes]
    context: ClassVar[str]
    shows: ClassVar[Any]
    """The lens of what the statements read."""
    cache: dict[str, Any]
    """Set by the statements that use it."""

    def __init__(self, data: bytes) -> None:
        self.r = data
        self.a: list[bytes] | None = None
        self.v: Any = None
        self.late: list[bytes] = []

    def view(self) -> Any:
        """The fields that the statements read."""
        view = self.v
        if view is None:
            view = self.v = parse(self.shows, self.r)
            self.late = []
        return view

    # Attributes

    def pairs(self) -> list[bytes]:
        """Its KeyValues."""
        pairs = self.a
        if pairs is None:
            pairs = self.a = list(self.view().attributes)
            if self.late:
                pairs += self.late
        return pairs

    def find(self, key: bytes, head: bytes) -> int:
        """Where the first attribute of this key is in `a`; -1 without one."""
        if not self.r.count(key):  # as `in`, but without the exception that it makes and forgets
            return -1
        pairs = self.pairs()
        begin, end = self._once(key, head)
        if end:
            return pairs.index(self.r[begin:end])
        for i, pair in enumerate(pairs):
            if pair.startswith(head):
                return i
        # What known writers do not write: the value before the key, a length of more bytes than it needs.
        for i, pair in enumerate(pairs):
            if _odd(pair) and attribute_key(pair) == key:
                return i
        return -1

    def any(self, key: bytes, head: bytes) -> bytes | None:
        """The AnyValue of an attribute; None where there is no such attribute."""
        at = self.find(key, head)
        if at < 0:
            return None
        pair = self.pairs()[at]
        begin = len(head) + 2
        if len(pair) >= begin and pair[begin - 2] == 18 and pair[begin - 1] < 128 and len(pair) == begin + pair[begin - 1]:
            return pair[begin:]
        return parse(_Pair, pair).value  # type: ignore[no-any-return]

    def value(self, key: bytes, head: bytes) -> Any:
        """The value of an attribute; None without one."""
        data = self.any(key, head)
        return decoded(data) if data else None

    def deep(self, key: bytes, head: bytes, keys: list[Any]) -> Any:
        """`attributes[key][...]`."""
        data = self.any(key, head)
        return None if data is None else index(decoded(data), keys)

    def is_text(self, key: bytes, head: bytes, text: str, value: bytes) -> bool:
        """Whether an attribute is this text, whose AnyValue is `value`."""
        data = self.any(key, head)
        return data is not None and (data == value or decoded(data) == text)

    def set(self, key: bytes, head: bytes, value: bytes) -> None:
        """Sets an attribute to an AnyValue."""
        new = _pair(head, value)
        at = self.find(key, head)
        if at >= 0:
            self._splice(at, new)
            return
        size = len(new)
        self.r += self.tag + (_SIZES[size] if size < 128 else varint(size)) + new
        (self.late if self.a is None else self.a).append(new)

    def put_deep(self, key: bytes, head: bytes, keys: list[Any], value: Any) -> None:
        """Sets `attributes[key][...]`."""
        self.set(key, head, encoded(put_in(self.value(key, head), keys, stored(value))))

    def delete(self, key: bytes, head: bytes) -> None:
        """Takes out the attributes of a key."""
        # hot: otlp_transform, 1.5 us: cut out where its key stands, without a look at each of the others
        data = self.r
        if not data.count(key):
            return
        pairs = self.pairs()
        begin, end = self._once(key, head)
        if end:
            pairs.remove(data[begin:end])
            self.r = data[: begin - 2] + data[end:]
            return
        kept = [pair for pair in pairs if not pair.startswith(head) and not (_odd(pair) and attribute_key(pair) == key)]
        if len(kept) != len(pairs):
            self._rebuild(kept)

    def _once(self, key: bytes, head: bytes) -> tuple[int, int]:
        """From where to where the only attribute of a key stands in `r`, if that is sure; otherwise 0, 0.

        It is where the bytes of the key stand once in the item, and what they stand in is one of its attributes.
        """
        data = self.r
        at = data.find(key)
        if at >= 0 and key and data.find(key, at + 1) < 0:
            begin = at + len(key) - len(head)
            if begin > 1 and data[begin - 1] < 128 and data.startswith(head, begin):
                end = begin + data[begin - 1]
                if data[begin - 2 : begin - 1] == self.tag and data[begin:end] in self.pairs():
                    return begin, end
        return 0, 0

    def merge(self, entries: Sequence[tuple[bytes, bytes, bytes]], strategy: str) -> None:
        """Sets the entries (key, head, AnyValue) that are to be set by `strategy`."""
        if len(entries) > FEW:
            self._merge_many(entries, strategy)
            return
        # hot: otlp_transform_kof, 0.3 us an entry that is new: those whose keys are nowhere are written at the end together
        data = self.r
        new = []
        for key, head, value in entries:
            if data.count(key) and (at := self.find(key, head)) >= 0:
                if strategy != "insert":
                    self._splice(at, _pair(head, value))
            elif strategy != "update":
                new.append(_pair(head, value))
        if new:
            (self.late if self.a is None else self.a).extend(new)
            tag = self.tag
            self.r += b"".join([tag + (_SIZES[len(pair)] if len(pair) < 128 else varint(len(pair))) + pair for pair in new])

    def _merge_many(self, entries: Sequence[tuple[bytes, bytes, bytes]], strategy: str) -> None:
        pairs = self.pairs()
        where = {attribute_key(pair): i for i, pair in reversed(list(enumerate(pairs)))}
        for key, head, value in entries:
            at = where.get(key)
            if strategy == "upsert" or (at is not None) == (strategy == "update"):
                new = _pair(head, value)
                if at is None:
                    where[key] = len(pairs)
                    pairs.append(new)
                else:
                    pairs[at] = new
        self._rebuild(pairs)

    def _splice(self, at: int, new: bytes | None) -> None:
        pairs = self.pairs()
        pair = pairs[at]
        old = self.tag + (_SIZES[len(pair)] if len(pair) < 128 else varint(len(pair))) + pair
        if new is None:
            del pairs[at]
        else:
            pairs[at] = new
        data = self.r
        begin = data.find(old)
        if begin < 0 or data.find(old, begin + 1) >= 0:
            self._rebuild(pairs)
        else:
            self.r = data[:begin] + (b"" if new is None else self.tag + varint(len(new)) + new) + data[begin + len(old) :]

    def _rebuild(self, pairs: list[bytes]) -> None:
        """The attributes are these from now on."""
        view = parse(self.shows, self.r)
        del view.attributes[:]
        view.attributes.extend(pairs)
        self.a = pairs
        self.r = view.SerializeToString()

    def keep(self, keys: frozenset[bytes], heads: tuple[bytes, ...]) -> None:
        """Leaves only the attributes of these keys."""
        pairs = self.pairs()
        kept = [pair for pair in pairs if pair.startswith(heads) or (_odd(pair) and attribute_key(pair) in keys)]
        if len(kept) != len(pairs):
            self._rebuild(kept)

    def keys(self) -> list[str]:
        """The keys of the attributes."""
        return [(attribute_key(pair) if _odd(pair) else pair[2 : 2 + pair[1]]).decode("utf-8", "replace") for pair in self.pairs()]

    def drop(self, gone: Any) -> None:
        """Takes out the attributes whose keys are in `gone`."""
        if gone:
            self._rebuild([pair for pair, key in zip(self.pairs(), self.keys(), strict=True) if key not in gone])

    def attributes(self) -> dict[str, Any]:
        """All attributes."""
        pairs = [parse(_Pair, pair) for pair in self.pairs()]
        return {pair.key.decode("utf-8", "replace"): decoded(pair.value) for pair in pairs}

    def put_attributes(self, values: dict[str, Any]) -> None:
        """Sets all attributes."""
        pairs = []
        for key, value in values.items():
            data = encoded(value)
            pairs.append(head(key.encode("utf-8", "replace")) + b"\x12" + varint(len(data)) + data)
        self._rebuild(pairs)

    # Other fields

    def put(self, field: str, value: Any) -> None:
        """Sets a field as its lens has it."""
        view = parse(lens(self.context, frozenset((field,)), self.field), self.r)
        if value or field == "body":
            setattr(view, field, value)
        else:
            view.ClearField(field)
        self.r = view.SerializeToString()
        self.v = None
        self.late = []


ATTRIBUTES = {"log": edit.LOG_RECORD, "span": edit.SPAN, "metric": edit.METRIC_METADATA}


@cache
def item_class(context: str, fields: frozenset[str], number: int) -> Callable[[bytes], Item]:
    """The class of items of a context whose attributes have this number, and of which these fields are read."""
    members = {
        "__slots__": (),
        "field": number,
        "tag": varint(number << 3 | 2),
        "context": context,
        "shows": lens(context, fields, number),
    }
    return type(f"{context.title()}Item", (Item,), members)


_TOGETHER = 64
"""So many items are searched at once for the keys that they are to get."""
_Entries = Sequence[tuple[bytes, bytes, bytes]]
_Run = Callable[[Sequence[bytes]], list[bytes]]


def adding(item: type[Item], run: _Run, statements: Sequence[_Entries]) -> _Run:
    """The same as `run`, which sets the entries of these statements, for items that mostly have none of them.

    To such an item they are only added, and all get the same bytes.
    """
    entries = [entry for each in statements for entry in each]
    keys = [key for key, _, _ in entries]
    if len(keys) > FEW or len({*keys}) < len(keys):
        return run
    pairs = [_pair(head, value) for _, head, value in entries]
    more = b"".join([item.tag + varint(len(pair)) + pair for pair in pairs])
    if not more:
        return list

    def each(record: bytes, there: list[bytes]) -> bytes:
        for key in there:
            if record.count(key):
                return run((record,))[0]
        return record + more

    def add(records: Sequence[bytes]) -> list[bytes]:
        # hot: otlp_transform_points, 0.1 us a point: no work for each but to join it with what it gets
        out: list[bytes] = []
        for begin in range(0, len(records), _TOGETHER):
            part = records[begin : begin + _TOGETHER]
            whole = b"".join(part)
            there = [key for key in keys if whole.count(key)]
            out += [each(record, there) for record in part] if there else [record + more for record in part]
        return out

    return add
