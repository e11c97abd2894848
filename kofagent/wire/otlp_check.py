"""The check of payloads that come from outside: well formed to the last attribute, strings in UTF-8, ids of the
right length.

A batch joins the payloads of many senders, and a backend that cannot decode one of them refuses all of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache, partial
from typing import Any, NamedTuple

from google.protobuf import message_factory

from kofagent.memory.pressure import PRESSURE
from kofagent.wire.lens import parse
from kofagent.wire.otlp import COUNTED, METRIC_KINDS, REQUESTS, count, parse_request, schema
from kofagent.wire.varint import length_delimited
from kofagent.wire.walk import DELIMITED, fields, placed

IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
"""Bytes of an id by the name of its field, in spans, links, log records and exemplars; it may be empty, too."""

# What is kept while a payload is looked at takes some hundred times the size of the least message, 12 times that of the least id.
_BIG = 128 * 1024
_HUGE = 2 * 1024 * 1024
_MANY = 1000
_SMALLEST = 16
_DENSE = 32


WORST = 16
"""Bytes that the outline of a payload takes for one of its bytes, when all that it has are empty records."""


class TooMany(Exception):
    """The payload has more items than there is room for."""


class NotText(ValueError):
    """The payload is well formed, but has strings that are not UTF-8; `otlp_text.repair` mends them."""


def check(signal: str, payload: bytes) -> int:
    """The items in a payload. NotText, or ValueError where it is malformed or has an id of a wrong length."""
    return check_at_once(signal, payload) if at_once(signal, payload) else check_in_pieces(signal, payload)


def at_once(signal: str, payload: bytes) -> bool:
    """Whether `check_at_once` takes less than 100 ms for a payload, and no more memory than there is. ValueError as `check`."""
    size = len(payload)
    if size <= _BIG:
        return True
    if size > _HUGE or not PRESSURE.fits(WORST * size):
        return False
    _refuse_empty(payload)
    return not (signal == "metrics" and _dense(payload))


def check_at_once(signal: str, payload: bytes) -> int:
    """As `check`, of a payload for which `at_once` is true."""
    # hot: otlp_http_span, 0.47 us a span of six attributes, two parses in C that keep next to nothing
    _checks(signal).whole(payload)
    return count(signal, payload)


def check_in_pieces(signal: str, payload: bytes, most: int = sys.maxsize) -> int:
    """As `check`, in some MiB of memory whatever the payload is; it takes a microsecond for each of its parts.

    TooMany as soon as it has found more than `most` items.
    """
    _refuse_empty(payload)
    checks = _checks(signal)
    checks.form(payload)
    return checks.in_pieces(REQUESTS[signal], payload, 0, len(payload), 0, most)


def is_text(signal: str, type: str, message: bytes) -> bool:
    """Whether all strings of a well-formed message are UTF-8; `type` is its full name."""
    try:
        parse(_checks(signal).message("text", type), message)
    except ValueError:
        return False
    return True


def _refuse_empty(payload: bytes) -> None:
    """ValueError for many resources or scopes with next to nothing in them: they would cost a hundred times their size."""
    _refuse_empty_parts(payload, "resources")
    for _, _, start, end in fields(payload):
        if end - start > _BIG:
            _refuse_empty_parts(payload[start:end], "scopes")


def _refuse_empty_parts(message: bytes, what: str) -> None:
    for n, (_, _, _, end) in enumerate(fields(message)):
        if n > _MANY and end < n * _SMALLEST:
            raise ValueError(f"more than {_MANY} {what} with nothing in them")


def _dense(payload: bytes) -> bool:
    """Whether records are so small that decoding all of them at once would take many times the payload's size."""
    records = sum([len(scope.records) for entry in parse_request(payload).resources for scope in entry.scopes])
    return records * _DENSE > len(payload)


@cache
def _checks(signal: str) -> _Checks:
    return _Checks(signal)


class _Ids(NamedTuple):
    """Where a message has ids: in its own fields, and in nested messages."""

    own: list[tuple[str, int]]
    within: dict[str, _Ids]


class _Checks:
    """The messages of a signal in three more forms, so that protobuf's C core does nearly all of the check.

    What is repeated (resources, records, attributes, events, ...) is declared as single and without alternatives. Protobuf merges
    what comes again into the one that is there: all of it is checked, and it takes no more memory, however many there are.

    - `ids`: ids are repeated, so that each of them is kept; strings are strings, which C refuses when they are not UTF-8.
    - `text`: strings are strings.
    - `bytes`: strings are bytes.
    """

    def __init__(self, signal: str) -> None:
        self._signal = signal
        self._record_level = 5 if signal == "metrics" else 3
        self._forms = {form: schema(signal, partial(_merge, form)) for form in ("ids", "text", "bytes")}
        self._classes: dict[tuple[str, str], Any] = {}
        self._ids: dict[str, _Ids] = {}
        self._find_ids(self.message("ids", REQUESTS[signal]).DESCRIPTOR)

    def message(self, form: str, type: str) -> Any:
        """The class of a message in one of the forms; `type` is its full name."""
        known = self._classes.get((form, type))
        if known is None:
            known = message_factory.GetMessageClass(self._forms[form].FindMessageTypeByName(type))
            self._classes[form, type] = known
        return known

    def form(self, payload: bytes, form: str = "text") -> Any:
        """The payload in this form. NotText, or ValueError where it is malformed."""
        type = REQUESTS[self._signal]
        try:
            return parse(self.message(form, type), payload)
        except ValueError:
            parse(self.message("bytes", type), payload)
            raise NotText("a string is not UTF-8") from None

    def whole(self, payload: bytes) -> None:
        """Checks a payload at once. NotText, ValueError."""
        _check_ids(self._ids[REQUESTS[self._signal]], self.form(payload, "ids"))

    def _find_ids(self, descriptor: Any) -> _Ids:
        """Where a message, and all that it can contain, has ids."""
        ids = self._ids.get(descriptor.full_name)
        if ids is None:
            ids = self._ids[descriptor.full_name] = _Ids([], {})  # before its fields: values contain values
            for field in descriptor.fields:
                if field.name in IDS:
                    ids.own.append((field.name, IDS[field.name]))
                elif field.message_type is not None:
                    inner = self._find_ids(field.message_type)
                    if inner.own or inner.within:
                        ids.within[field.name] = inner
        return ids

    def in_pieces(self, type: str, data: bytes, begin: int, end: int, level: int, most: int) -> int:
        """Checks the ids of a well-formed message a piece at a time; the items in it. TooMany for more than `most`.

        `level`: how many messages of those that are counted this one is in; -1: nothing in it is counted.
        """
        message = self.message("ids", type)
        by_number = message.DESCRIPTOR.fields_by_number
        if (
            self._signal == "metrics"
            and level == _METRIC_LEVEL
            and len(_KINDS & {field[0] for field in fields(data, begin, end)}) > 1
        ):
            raise ValueError("a metric of more than one kind")
        items = 0
        for number, start, stop in _pieces(data, begin, end):
            inner = by_number.get(number)
            if inner is not None and inner.message_type is not None:
                below = level + 1 if level >= 0 and (inner.name in COUNTED or inner.name in METRIC_KINDS) else -1
                if below == self._record_level:
                    items, below = items + 1, -1
                if below >= 0 or inner.name in self._ids[type].within:
                    items += self.in_pieces(inner.message_type.full_name, data, start, stop, below, most - items)
            elif number == 0 or (inner is not None and inner.name in IDS):
                piece = data[start:stop] if number == 0 else length_delimited(number, data[start:stop])
                _check_ids(self._ids[type], parse(message, piece))
                if level >= 0:
                    for field in reversed(_ENCLOSING[:level]):
                        piece = length_delimited(field, piece)
                    items += count(self._signal, piece)
            if items > most:
                raise TooMany
        return items


def _check_ids(ids: _Ids, message: Any) -> None:
    own, within = ids
    if own and not (len(own) == _SPAN_IDS and _aligned(message)):
        for name, size in own:
            if not set(map(len, getattr(message, name))) <= {0, size}:
                raise ValueError(f"a {name} that does not have {size} bytes")
    for name, inner in within.items():
        if message.HasField(name):
            _check_ids(inner, getattr(message, name))


_SPAN_IDS = 3
_METRIC_LEVEL = 3
_KINDS = frozenset(METRIC_KINDS.values())
_ENCLOSING = (1, 2, 2, METRIC_KINDS["gauge"])
"""Field numbers of resources in a request, scopes in a resource, records in a scope, and of one kind of data in a metric."""


def _merge(form: str, message: Any) -> None:
    for field in message.field:
        if field.type == field.TYPE_STRING and form == "bytes":
            field.type = field.TYPE_BYTES
        if field.type == field.TYPE_MESSAGE:
            field.label = field.LABEL_OPTIONAL
        elif field.name in IDS and form == "ids":
            field.label = field.LABEL_REPEATED
        field.ClearField("oneof_index")
        field.ClearField("proto3_optional")
    del message.oneof_decl[:]


def _aligned(span: Any) -> bool:
    """Whether all ids of merged spans, or links, have their full length: then they are at even distances in the encoding."""
    span.ClearField("trace_state")  # is between them
    data = span.SerializeToString()
    at = 0
    for name, tag in (("trace_id", b"\x0a"), ("span_id", b"\x12"), ("parent_span_id", b"\x22")):
        number, size = len(getattr(span, name)), IDS[name]
        end = at + number * (size + 2)
        if data[at : end : size + 2] != tag * number or data[at + 1 : end : size + 2] != bytes((size,)) * number:
            return False
        at = end
    return True


def _pieces(data: bytes, begin: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """A message cut between its fields: (0, start, end) of some of them, (number, start, end) of the content of a large one."""
    for number, kind, start, end, first in placed(data, begin, stop):
        large = kind == DELIMITED and end - start > _BIG
        if first > begin and (large or end - begin > _BIG):
            yield 0, begin, first
            begin = first
        if large:
            yield number, start, end
            begin = end
    if stop > begin:
        yield 0, begin, stop
