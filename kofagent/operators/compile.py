"""The compiler: a chain and the constants of one file become one Python function over chunks of lines.

What it rests on (design, ideas 1 to 3): of a line only time, body and a few short words differ (the stream, the level that
a pattern found). The function parses a chunk with one `findall`, computes those words, and looks up what the operators make
of them: the operators themselves run once for each distinct set of words (`Outcome`), on an entry with a stand-in for the
body, and the bytes of the record's other fields are remembered. So every operator counts here that neither changes the
body nor reads it other than by a pattern or a condition that can be evaluated ahead (`lift`).

Other chains, and files whose words differ too much, get the second shape (`generate`): an entry a line, operators in line.
Lines that are not plain (partial, another format, not parsed) go through the operators one by one, in order. Values of
users are bound to names, never written into the source; the source is in `linecache` for tracebacks and `Chain.explain`.
"""

from __future__ import annotations

import hashlib
import json
import linecache
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any

from kofagent.operators import encode
from kofagent.operators.container import Container
from kofagent.operators.entry import Entry, deep
from kofagent.operators.generate import Bound, Shape, entries_source, outcomes_source
from kofagent.operators.interpret import PlainStream, StreamOwner
from kofagent.operators.json_parser import DOUBLES
from kofagent.operators.lift import Lift, lift_operators
from kofagent.operators.operator import ATTRIBUTES, BODY, Operator, OperatorError
from kofagent.operators.regex import UNANCHORED
from kofagent.operators.timelayout import TimeError, gotime_layout, location_of
from kofagent.wire.varint import varint

Feed = Callable[[bytes, int], int]

MAX_OUTCOMES = 512
"""Distinct sets of words of one file that are remembered; a file with more gets the second shape."""
ADAPT_AFTER = 1000
"""Lines after which the engine of patterns is chosen again."""
RE2_FROM = 0.42
"""Share of lines a pattern does not match from which RE2 is faster than Python's `re` (measured)."""
_STAND_IN = "\ue000 stand-in for the body \ue000"
_STAND_IN_TIME = 946684800_000000000
# Seconds, nanoseconds (as containerd and CRI-O write them), stream, body; whether the seconds are a time is asked once for each.
_LINE = rb"(.{19})\.([0-9]{9})%s std(o|e)(?:ut|rr) F(?: |(?=\n))(.*)\n|.*\n"
_FIND = {"containerd": re.compile(_LINE % b"Z").findall, "crio": re.compile(_LINE % rb"([+-][0-9]{2}:[0-9]{2})").findall}
_FRACTION = re.compile(r"(?:\.([0-9]+))?Z", re.ASCII).fullmatch
_STREAMS = {"stdout": b"o", "stderr": b"e"}
# What a line of Docker's that is not as usual raises on its way: no JSON, no map, a member missing or of another kind.
_UNUSUAL = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
_SECOND = gotime_layout("2006-01-02T15:04:05Z07:00", location_of("UTC", ""), {})
_TIMES = Struct("<BQBQ").pack


@lru_cache(maxsize=256)
def second(text: bytes) -> int:
    """Unix nanoseconds of a time without fraction, -1 for one the operators have to refuse."""
    try:
        return _SECOND.parse(text.decode("utf-8", "replace"))
    except TimeError:
        return -1


class Plan:
    """What is known of a chain before any file: `lifts` None means that entries have to be made."""

    def __init__(self, operators: list[Operator]) -> None:
        self.operators = operators
        first = operators[0] if operators else None
        self.container = first if isinstance(first, Container) and _is_plain(first, operators) else None
        self.rest = operators[1:] if self.container is not None else operators
        self.lifts = lift_operators(self.rest)

    @property
    def kind(self) -> str:
        """The lines that are parsed at first; without `format` containerd's until a line says otherwise."""
        return "lines" if self.container is None else self.container.config.format or "containerd"

    def source(self, engine: str = "re") -> str:
        """The source for a file, to be read."""
        shape = Shape(self.kind)
        return (
            outcomes_source(shape, self.lifts, engine, _names())
            if self.lifts is not None
            else (entries_source(shape, self.rest, _names()))
        )


def _is_plain(operator: Container, operators: list[Operator]) -> bool:
    config = operator.config
    following = operators[1] if len(operators) > 1 else None
    return (
        config.if_ is None
        and config.parse_from == BODY
        and config.parse_to == ATTRIBUTES
        and config.body is None
        and not operator.blocks
        and operator.outputs == [following]
    )


class _Heads(dict[int, bytes]):
    """Length of a body -> bytes in front of it: tag and length of the record, tags and lengths of the body."""

    def __init__(self, other: int) -> None:
        self.other = other

    def __missing__(self, n: int) -> bytes:
        inner = b"\x0a" + varint(n)
        body = b"\x2a" + varint(len(inner) + n) + inner
        head = b"\x12" + varint(len(body) + n + self.other) + body
        if len(self) > 4096:
            self.clear()
        self[n] = head
        return head


_heads: dict[int, _Heads] = {}


def heads(other: int) -> _Heads:
    """The heads of records whose fields other than the body have `other` bytes; shared by all streams."""
    if len(_heads) > 500:
        _heads.clear()
    found = _heads.get(other)
    if found is None:
        found = _heads[other] = _Heads(other)
    return found


class Outcome:
    """What the operators make of one set of words where that is not exactly one record: records as (group, other fields),
    and effects to repeat."""

    def __init__(self, records: list[tuple[bytes, bytes]], effects: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        self.records = records
        self.effects = effects


class _Recorder(PlainStream):
    """Runs the operators on a stand-in and keeps what they did."""

    def __init__(self, chain: StreamOwner, attributes: dict[str, Any], time: int | None) -> None:
        super().__init__(chain, attributes)
        self.time = time
        self.records: list[tuple[bytes, bytes]] = []
        self.effects: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.usable = True
        self.dropped = lambda *a: self.effects.append((chain.dropped, a))
        self.filtered = lambda *a: self.effects.append((chain.filtered, a))
        self.failed = lambda *a: self.effects.append((chain.failed, a))

    def out(self, entry: Entry) -> None:
        if entry.body != _STAND_IN or entry.timestamp != self.time:
            self.usable = False
        self.records.append((encode.group_key(entry), encode.record_rest(entry)))


class Stream(PlainStream):
    """One file's way through a compiled chain; the interface is `PlainStream`'s."""

    def __init__(self, chain: StreamOwner, attributes: Any, plan: Plan) -> None:
        super().__init__(chain, attributes)
        self.plan = plan
        self.lines = self.misses = 0
        self._kind = plan.kind
        self._engine = "re"
        self._outcomes = 0
        self._memos: dict[bytes, dict[Any, Any]] = {b"o": {}, b"e": {}}
        self._encoder = encode.Encoder()
        self._lifts = plan.lifts
        self._format_known = plan.container is None or plan.container.config.format != ""
        self._fast: Feed | None = None
        self._compile()

    @property
    def shape(self) -> str:
        """`outcomes`, `entries`, or `operators` where the chain runs one by one."""
        return "operators" if self._fast is None else "outcomes" if self._lifts is not None else "entries"

    # What receivers use.

    def feed_chunk(self, chunk: bytes, observed_ns: int) -> None:
        if self._fast is None or not chunk.endswith(b"\n"):
            super().feed_chunk(chunk, observed_ns)
            return
        if not chunk.isascii():
            try:
                chunk.decode()
            except UnicodeDecodeError:
                chunk = chunk.decode("utf-8", "replace").encode()
        if not self._format_known:
            self._find_format(chunk)
        count = self._fast(chunk, observed_ns)
        # Not in one line: lines that were not plain have changed the count meanwhile.
        self._count += count
        if self.lines > ADAPT_AFTER:
            self._adapt()

    def feed_entries(
        self, entries: Sequence[bytes | str], observed_ns: int, extra: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        if self._fast is not None and extra is None and entries:
            chunk = b"\n".join([e if isinstance(e, bytes) else encode.utf8(e) for e in entries]) + b"\n"
            if chunk.count(b"\n") == len(entries):
                self.feed_chunk(chunk, observed_ns)
                return
        super().feed_entries(entries, observed_ns, extra)

    def take(self) -> tuple[bytes, int]:
        count = self._count
        if not count:
            return b"", 0
        out = []
        for key, records in self._groups.items():
            if records:
                out.append(encode.resource_logs(key, b"".join(records)))
                # The list stays: outcomes hold its `extend`.
                records.clear()
        if len(self._groups) > MAX_OUTCOMES:
            self._groups.clear()
            for memo in self._memos.values():
                memo.clear()
        self._count = 0
        return b"".join(out), count

    def out(self, entry: Entry) -> None:
        key, record = self._encoder.encode(entry)
        records = self._groups.get(key)
        if records is None:
            records = self._groups[key] = []
        records.append(record)
        self._count += 1

    def close(self) -> None:
        super().close()
        for memo in self._memos.values():
            memo.clear()

    # Choosing the function.

    def _find_format(self, chunk: bytes) -> None:
        """The format of a line that has one; lines of the others work too, more slowly."""
        end = chunk.find(b"\n") + 1
        kinds = [kind for kind, find in _FIND.items() if any(find(chunk, 0, end)[0])]
        if chunk[:1] == b"{":
            kinds = ["docker"]
        if kinds:
            self._format_known = True
            if kinds[0] != self._kind:
                self._kind = kinds[0]
                # Lines of another format have other attributes.
                for memo in self._memos.values():
                    memo.clear()
                self._compile()

    def _adapt(self) -> None:
        """Python's `re` is faster where lines match early, RE2 where many do not match at all."""
        engine = "re2" if self.misses > self.lines * RE2_FROM else "re"
        self.lines = self.misses = 0
        if engine != self._engine:
            self._engine = engine
            self._compile()

    def _compile(self) -> None:
        shape = Shape(self._kind)
        bound = _names()
        bound.update(
            findall=_FIND.get(self._kind),
            loads=DOUBLES.decode,
            fraction=_FRACTION,
            streams=_STREAMS,
            Unusual=_UNUSUAL,
            times=_TIMES,
            U=UNANCHORED,
            slow=self.slow,
            second=second,
            out=self.out,
            dropped=self.dropped,
            failed=self.failed,
            Outcome=Outcome,
            Entry=Entry,
            resolve=self.resolve,
            other=self.other,
            memos=self._memos,
        )
        if self._lifts is not None:
            source = outcomes_source(shape, self._lifts, self._engine, bound)
        elif self._constants(bound):
            source = entries_source(shape, self.plan.rest, bound)
        else:
            self._fast = None
            return
        self._fast = load(source)(self, bound)

    def _constants(self, bound: Bound) -> bool:
        """Attributes and resource of a plain line behind `container`; False when `container` fails on this file."""
        entry = Entry("", deep(self.attributes), dict(self.chain.resource), 0)
        attributes: Any = entry.attributes
        container = self.plan.container
        if container is not None:
            if container.config.add_metadata_from_filepath:
                try:
                    container.add_metadata(entry)
                except OperatorError:
                    return False
            tag = {} if self._kind == "docker" else {"logtag": "F"}
            attributes = {io: {**entry.attributes, **tag, "log.iostream": name} for name, io in _STREAMS.items()}
        flat = not any(isinstance(v, dict | list) for v in entry.attributes.values())
        bound.update(attributes=attributes, resource=entry.resource, copy=dict.copy if flat else deep)
        return True

    # What the generated functions call.

    def slow(self, line: bytes, observed_ns: int) -> bool:
        """One line through the operators, one by one; returns whether partial lines wait for the next ones."""
        self.feed(line, observed_ns)
        return self.plan.container is not None and bool(self._states.get(self.plan.container))

    def resolve(self, io: bytes, word: Any) -> Any:
        """What the function looks up for these words: (extend, heads, other fields), or an `Outcome` of another shape."""
        lifts = self._lifts
        if lifts is None:
            return None  # given up earlier in this chunk
        words = word if len(lifts) > 1 else (word,)
        body, time = _STAND_IN, None
        if self.plan.container is not None:
            time = _STAND_IN_TIME
            name = "stdout" if io == b"o" else "stderr"
            if self._kind == "docker":
                body = json.dumps({"log": _STAND_IN, "stream": name, "time": "2000-01-01T00:00:00Z"})
            else:
                body = f"2000-01-01T00:00:00.000000000{'+00:00' if self._kind == 'crio' else 'Z'} {name} F {_STAND_IN}"
        recorder = _Recorder(self.chain, self.attributes, time)
        entry = Entry(body, deep(self.attributes), dict(self.chain.resource), 0)
        entry.lifted = {lift.key: lift.value(w) for lift, w in zip(lifts, words, strict=False)}
        if self.plan.operators:
            self.plan.operators[0].process(entry, recorder)
        else:
            recorder.out(entry)
        self._outcomes += 1
        if not recorder.usable or self._outcomes > MAX_OUTCOMES:
            # `container` fails on this file, or the words differ too much: from the next chunk on entries are made.
            self._lifts = None
            self._compile()
            return None
        found: Any = Outcome(recorder.records, recorder.effects)
        if len(found.records) == 1 and not found.effects:
            key, rest = found.records[0]
            found = (self._groups.setdefault(key, []).extend, heads(len(rest) + (9 if time is None else 18)), rest)
        self._memos[io][word] = found
        return found

    def other(self, outcome: Outcome, body: bytes, times: bytes) -> int:
        """Does what an outcome of an unusual shape says; returns the number of records."""
        for function, arguments in outcome.effects:
            function(*arguments)
        for key, rest in outcome.records:
            self._groups.setdefault(key, []).extend((heads(len(rest) + len(times))[len(body)], body, rest, times))
        return len(outcome.records)


def _names() -> Bound:
    """Every name a function may use, for a source that is only read."""
    return dict.fromkeys(
        (
            "findall",
            "times",
            "U",
            "slow",
            "second",
            "out",
            "dropped",
            "failed",
            "Outcome",
            "Entry",
            "resolve",
            "other",
            "memos",
            "attributes",
            "resource",
            "copy",
            "loads",
            "fraction",
            "streams",
            "Unusual",
        )
    )


_made: dict[str, Callable[[Stream, Bound], Feed]] = {}


def load(source: str) -> Callable[[Stream, Bound], Feed]:
    """The function that makes the feed function of this source; the same source is compiled once."""
    make = _made.get(source)
    if make is None:
        name = f"<kofagent operators {hashlib.sha256(source.encode()).hexdigest()[:12]}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        space: dict[str, Any] = {}
        exec(compile(source, name, "exec"), space)  # noqa: S102 - the text is ours, what users wrote is bound
        make = _made[source] = space["make"]
    return make


__all__ = ["Lift", "Outcome", "Plan", "Stream"]
