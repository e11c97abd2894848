"""The compiler: a chain and the constants of one file become one Python function over chunks of lines.

What it rests on (design, ideas 1 to 3): of a line only time, body and a few short words differ (the stream, the level that
a pattern found). The function parses a chunk with one `findall`, computes those words, and looks up what the operators make
of them: the operators themselves run once for each distinct set of words (`Outcome`), on an entry with a stand-in for the
body, and the bytes of the record's other fields are remembered. That works for operators that declare (`access`) that they
neither change the body nor read it other than by a pattern or a condition that can be evaluated ahead (`lift`).

Other chains, and files whose words differ too much, get the second shape (`generate`): an entry a line, operators in line.
Lines that are not plain (partial, another format, not parsed) go through the operators one by one, in order. Values of
users are bound to names, never written into the source; the source is in `linecache` for tracebacks and `Chain.explain`.
"""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any

from kofagent.memory.memo import SLOT, Memo, sizeof
from kofagent.operators import encode
from kofagent.operators.emit import Bound
from kofagent.operators.entry import Entry, deep
from kofagent.operators.errors import OperatorError
from kofagent.operators.generate import entries_source, outcomes_source
from kofagent.operators.interpret import PlainStream, StreamOwner
from kofagent.operators.lift import lift_operators
from kofagent.operators.line_formats import FORMATS, LineFormat, format_of
from kofagent.operators.operator import AnyOperator
from kofagent.operators.regex import UNANCHORED
from kofagent.operators.series import Held
from kofagent.operators.stand_in import BODY, Outcome, Recorder
from kofagent.wire.varint import varint

Feed = Callable[[bytes, int], int]

MAX_OUTCOMES = 512
"""Distinct sets of words of one file that are remembered; a file with more gets the second shape."""
MAX_GROUP_BYTES = 1 << 20
"""Resources of one file whose lists of records are kept from one `take` to the next."""
OUTCOME_BYTES = 200
TABLE_BYTES = 700
"""Of the objects, without what depends on the data. What a table of heads holds is in its own account."""
ADAPT_AFTER = 1000
"""Lines after which the engine of patterns is chosen again."""
RE2_FROM = 0.42
"""Share of lines a pattern does not match from which RE2 is faster than Python's `re` (measured)."""
_TIMES = Struct("<BQBQ").pack


class Plan:
    """What is known of a chain before any file: `lifts` None means that entries have to be made.

    `parser` is the first operator where plain lines are parsed ahead of it, with `line_parser` as its word on how.
    """

    def __init__(self, operators: list[AnyOperator]) -> None:
        self.operators = operators
        first = operators[0] if operators else None
        following = operators[1] if len(operators) > 1 else None
        self.line_parser = first.line_parser() if first is not None and first.outputs == [following] else None
        self.parser = first if self.line_parser is not None else None
        self.rest = operators[1:] if self.parser is not None else operators
        self.lifts = lift_operators(self.rest)

    @property
    def format(self) -> LineFormat:
        """The format of the lines that are parsed at first; without `format` containerd's until a line says otherwise."""
        return FORMATS["lines"] if self.line_parser is None else FORMATS[self.line_parser.format or "containerd"]

    def source(self, engine: str = "re") -> str:
        """The source for a file, to be read."""
        if self.lifts is not None:
            return outcomes_source(self.format, self.lifts, engine, _names(self.format))
        return entries_source(self.format, self.rest, _names(self.format))


Heads = Memo[int, bytes]
"""Length of a body -> bytes in front of it: tag and length of the record, tags and lengths of the body."""


def _heads(other: int) -> Heads:
    def head(n: int) -> bytes:
        inner = b"\x0a" + varint(n)
        body = b"\x2a" + varint(len(inner) + n) + inner
        return b"\x12" + varint(len(body) + n + other) + body

    return Memo("operators.heads", head, entries=4096, size=384 << 10)


heads = Memo("operators.head_tables", _heads, entries=256, size=256 << 10, cost=lambda other, table: TABLE_BYTES).__getitem__
"""The heads of records whose fields other than the body have that many bytes; shared by all streams."""


def _outcome_bytes(word: Any, found: Any) -> int:
    """`found` is an `Outcome`, or (extend, heads, other fields), of which only the last is the entry's alone."""
    held = found.records if isinstance(found, Outcome) else found[2]
    return SLOT + OUTCOME_BYTES + sizeof(word) + sizeof(held)


def _outcomes() -> Memo[Any, Any]:
    return Memo("operators.outcomes", entries=4 * MAX_OUTCOMES, size=2 << 20, cost=_outcome_bytes)


class Stream(PlainStream):
    """One file's way through a compiled chain; the interface is `PlainStream`'s."""

    def __init__(self, chain: StreamOwner, attributes: Any, plan: Plan, holding: Held | None = None, owner: Any = None) -> None:
        super().__init__(chain, attributes, holding, owner)
        self.plan = plan
        self.lines = self.misses = 0
        self._format = plan.format
        self._engine = "re"
        self._outcomes = 0
        self._memos: dict[bytes, Memo[Any, Any]] = {b"o": _outcomes(), b"e": _outcomes()}
        self._lifts = plan.lifts
        self._format_known = plan.line_parser is None or plan.line_parser.format == "docker"
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
                if self._joining:
                    self._feed_damaged(chunk, observed_ns)
                    return
                chunk = chunk.decode("utf-8", "replace").encode()
        self._feed_text(chunk, observed_ns)

    def _feed_damaged(self, chunk: bytes, observed_ns: int) -> None:
        """Lines of which some are no UTF-8: those that may be parts of longer ones go the long way, as bytes."""
        ready: list[bytes] = []
        for line in chunk[:-1].split(b"\n"):
            try:
                line.decode()
            except UnicodeDecodeError:
                self._feed_ready(ready, observed_ns)
                if self.unfinished(line):
                    self.position = self.before
                    self.feed(line, observed_ns)
                    self.before += 1
                else:
                    ready.append(line.decode("utf-8", "replace").encode())
            else:
                ready.append(line)
        self._feed_ready(ready, observed_ns)
        self.before = 0

    def _feed_ready(self, ready: list[bytes], observed_ns: int) -> None:
        if ready:
            self._feed_text(b"\n".join([*ready, b""]), observed_ns)
            self.before += len(ready)
            ready.clear()

    def _feed_text(self, chunk: bytes, observed_ns: int) -> None:
        """Whole lines of UTF-8."""
        if self._fast is None:
            super().feed_chunk(chunk, observed_ns)
            return
        if not self._format_known:
            self._find_format(chunk)
        count = self._fast(chunk, observed_ns)
        if self._lifts is not None:
            self._memos[b"o"].counts.lookups += count  # of both streams
        # Two statements: lines that were not plain have changed the count during the call.
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
        if len(self._groups) > MAX_OUTCOMES or sum(map(len, self._groups)) > MAX_GROUP_BYTES:
            self._groups.clear()
            for memo in self._memos.values():
                memo.clear()
        self._count = 0
        return b"".join(out), count

    def out(self, entry: Entry) -> None:
        key, record = encode.encoded(entry)
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
        """The format of the first line if it has one; lines of the others work too, more slowly."""
        found = format_of(chunk)
        if found is None or (found.name == "docker" and self.plan.line_parser is not None and self.plan.line_parser.format):
            return
        self._format_known = True
        if found is not self._format:
            self._format = found
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
        bound = _names(self._format)
        bound.update(
            times=_TIMES,
            U=UNANCHORED,
            slow=self.slow,
            out=self.out,
            dropped=self.dropped,
            failed=self.failed,
            broken=self.broken,
            Outcome=Outcome,
            Entry=Entry,
            resolve=self.resolve,
            other=self.other,
            memos=self._memos,
        )
        if self._lifts is not None:
            source = outcomes_source(self._format, self._lifts, self._engine, bound)
        elif self._constants(bound):
            source = entries_source(self._format, self.plan.rest, bound)
        else:
            self._fast = None
            return
        self._fast = load(source)(self, bound)

    def _constants(self, bound: Bound) -> bool:
        """Attributes and resource of a plain line behind the parser of lines; False when it fails on this file."""
        entry = Entry("", deep(self.attributes), dict(self.chain.resource), 0)
        attributes: Any = entry.attributes
        parser = self.plan.line_parser
        if parser is not None:
            try:
                parser.apply(entry)
            except OperatorError:
                return False
            attributes = parser.attributes(self._format, entry)
        flat = not any(isinstance(v, dict | list) for v in entry.attributes.values())
        bound.update(attributes=attributes, resource=entry.resource, copy=dict.copy if flat else deep)
        return True

    # What the generated functions call.

    def slow(self, line: bytes, observed_ns: int) -> bool:
        """One line through the operators, one by one; returns whether partial lines wait for the next ones."""
        self.feed(line, observed_ns)
        return self.plan.parser is not None and bool(self.holding.states.get(self.plan.parser))

    def resolve(self, io: bytes, word: Any) -> Any:
        """What the function looks up for these words: (extend, heads, other fields), or an `Outcome` of another shape."""
        lifts = self._lifts
        if lifts is None:
            return None  # given up earlier in this chunk
        words = word if len(lifts) > 1 else (word,)
        recorder = Recorder(self.chain, self.attributes, self.plan.parser)
        line = self._format.line("stdout" if io == b"o" else "stderr", BODY)
        recorder.run(line, {lift.key: lift.value(w) for lift, w in zip(lifts, words, strict=False)})
        if not any(memo.entries for memo in self._memos.values()):
            self._outcomes = 0  # memory was short, and all was forgotten
        self._outcomes += 1
        if not recorder.usable or self._outcomes > MAX_OUTCOMES:
            # The parser of lines fails on this file, an operator does more than it declares, or the words differ too much: from
            # the next chunk on entries are made.
            self._lifts = None
            self._compile()
            return None
        found: Any = Outcome(recorder.records, recorder.effects)
        if len(found.records) == 1 and not found.effects:
            key, rest = found.records[0]
            found = (self._groups.setdefault(key, []).extend, heads(len(rest) + (9 if recorder.time is None else 18)), rest)
        self._memos[io][word] = found
        return found

    def other(self, outcome: Outcome, body: bytes, times: bytes) -> int:
        """Does what an outcome of an unusual shape says; returns the number of records."""
        for function, arguments in outcome.effects:
            function(*arguments)
        for key, rest in outcome.records:
            self._groups.setdefault(key, []).extend((heads(len(rest) + len(times))[len(body)], body, rest, times))
        return len(outcome.records)


_NAMES = "times U slow out dropped failed broken Outcome Entry resolve other memos attributes resource copy"


def _names(format: LineFormat) -> Bound:
    """Every name that a function of this format may use; the values of `_NAMES` are the stream's."""
    return {**dict.fromkeys(_NAMES.split()), **format.bound}


@lru_cache(maxsize=256)
def load(source: str) -> Callable[[Stream, Bound], Feed]:
    """The function that makes the feed function of this source; the same source is compiled once."""
    name = f"<kofagent operators {hashlib.sha256(source.encode()).hexdigest()[:12]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    space: dict[str, Any] = {}
    exec(compile(source, name, "exec"), space)  # noqa: S102 - the text is ours, what users wrote is bound
    make: Callable[[Stream, Bound], Feed] = space["make"]
    return make
