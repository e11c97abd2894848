"""The compiler: a chain and the constants of one file become one Python function over chunks of lines.

What it rests on (design, ideas 1 to 3): of a line only time, body and a few short words differ (the stream, the level that
a pattern found). The function parses a chunk with one `findall`, computes those words, and looks up what the operators make
of them: the operators themselves run once for each distinct set of words (`Outcome`), on an entry with a stand-in for the
body, and the bytes of the record's other fields are remembered. So every operator counts here that neither changes the
body nor reads it other than by a pattern or a condition that can be evaluated ahead ("lifted").

Lines that are not plain (partial, another format, not parsed) go through the operators one by one, in order. Chains that do
not qualify, and files whose words differ too much, do that for all lines. Values of users are bound to names, never written
into the source; the source is in `linecache` for tracebacks and `Chain.explain`.
"""

from __future__ import annotations

import hashlib
import linecache
import re
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any

import re2

from kofagent.operators import encode
from kofagent.operators.block_parsers import TimeParser
from kofagent.operators.container import Container
from kofagent.operators.entry import Entry, deep
from kofagent.operators.expression import Expression, Node
from kofagent.operators.field import Field
from kofagent.operators.interpret import PlainStream, StreamOwner
from kofagent.operators.operator import ATTRIBUTES, BODY, Operator, Parser
from kofagent.operators.recombine import Recombine
from kofagent.operators.regex import Pattern
from kofagent.operators.regex_parser import RegexParser
from kofagent.operators.simple import SimpleSearch, simple_search
from kofagent.operators.syslog_parser import SyslogParser
from kofagent.operators.timelayout import TimeError, gotime_layout, location_of
from kofagent.operators.values import ExpressionError
from kofagent.wire.varint import varint

MAX_OUTCOMES = 512
"""Distinct sets of words of one file that are remembered; a file with more goes through the operators one by one."""
_STAND_IN = "\ue000 stand-in for the body \ue000"
_STAND_IN_TIME = 946684800_000000000
# Seconds, nanoseconds (as containerd and CRI-O write them), stream, body; whether the seconds are a time is asked once for each.
_LINE = rb"(.{19})\.([0-9]{9})%s std(o|e)(?:ut|rr) F(?: |(?=\n))(.*)\n|.*\n"
_SECOND = gotime_layout("2006-01-02T15:04:05Z07:00", location_of("UTC", ""), {})
_UNANCHORED = re2._Anchor.UNANCHORED


class Lift:
    """Work on the body done ahead: `key` is what operators look it up under, `code` the lines that compute `word`."""

    def __init__(self, key: Any, kind: str, bound: Any, search: SimpleSearch | None = None) -> None:
        self.key = key
        self.kind = kind
        self.bound = bound
        self.search = search

    def value(self, word: Any) -> Any:
        """What operators see for this word."""
        if self.kind != "regex":
            return word
        if word is None:
            return None
        words = word if isinstance(word, tuple) else (word,)
        return {name: w.decode() for (name, _), w in zip(self.bound.names, words, strict=True)}


class Plan:
    """What can be done ahead for a chain; made once per chain."""

    def __init__(self, container: Container | None, lifts: list[Lift]) -> None:
        self.container = container
        self.lifts = lifts


def plan(operators: list[Operator]) -> Plan | None:
    """The plan for these operators, None when they have to run one by one."""
    if not operators:
        return Plan(None, [])
    first = operators[0]
    container = first if isinstance(first, Container) else None
    if container is not None and not _plain_container(container):
        return None
    lifts: list[Lift] = []
    for operator in operators[1 if container is not None else 0:]:
        if not _lift_operator(operator, lifts):
            return None
    return Plan(container, lifts)


def _plain_container(operator: Container) -> bool:
    config = operator.config
    return (config.if_ is None and config.parse_from == BODY and config.parse_to == ATTRIBUTES and config.body is None
            and not operator.blocks and config.format in ("", "containerd", "crio"))


def _lift_operator(operator: Operator, lifts: list[Lift]) -> bool:
    """Adds what the operator reads of the body to `lifts`; False when the operator cannot run on a stand-in."""
    if isinstance(operator, Container | Recombine | SyslogParser | TimeParser) or not operator.repeatable:
        return False
    if isinstance(operator, Parser) and any(name == "timestamp" for name, _ in operator.blocks):
        return False
    lifted_here = False
    if isinstance(operator, RegexParser) and operator.config.parse_from == BODY:
        lifts.append(Lift(operator, "regex", operator.pattern, simple_search(operator.pattern)))
        lifted_here = True
    for field, option in _fields(operator.config):
        if field.root == "body" and not (lifted_here and option == "parse_from"):
            return False
    if isinstance(operator, Parser):
        for _, block in operator.blocks:
            if any(f.root == "body" for f, _ in _fields(block)) or any(
                    f.root == "body" for f in getattr(block, "fields", list)()):
                return False
    fields = getattr(operator.config, "fields", None)
    if callable(fields) and any(f.root == "body" for f in fields()):
        return False
    return all(_lift_expression(e, lifts) for e in operator.expressions())


def _fields(config: Any) -> list[tuple[Field, str]]:
    out = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Field):
                out.append((item, name))
    return out


def _lift_expression(expression: Expression, lifts: list[Lift]) -> bool:
    if not expression.repeatable:
        return False
    found: list[Node] = []

    def visit(node: Node) -> bool:
        if node.kind == "name" and node.value in ("body", "$", "$env", "timestamp"):
            return False
        if node.liftable:
            found.append(node)
            return True
        return all(visit(child) for child in node.children)

    if not visit(expression.root):
        return False
    for node in found:
        lifts.append(_lift_node(node))
    return True


def _lift_node(node: Node) -> Lift:
    left, right = node.children
    if left.kind == "name" and right.kind == "const" and isinstance(right.value, str):
        if node.value == "matches":
            return Lift(node, "test", Pattern(right.value), simple_search(Pattern(right.value)))
        kind = {"contains": "contains", "startsWith": "starts", "endsWith": "ends", "==": "equals"}.get(node.value)
        if kind is not None:
            return Lift(node, kind, right.value.encode("utf-8", "replace"))
    return Lift(node, "call", node.plain)


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
    if len(_heads) > 1000:
        _heads.clear()
    found = _heads.get(other)
    if found is None:
        found = _heads[other] = _Heads(other)
    return found


class Outcome:
    """What the operators make of one set of words: records (group, other fields), and effects to repeat."""

    def __init__(self, records: list[tuple[bytes, bytes]], effects: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        self.records = records
        self.effects = effects


class _Recorder(PlainStream):
    """Runs the operators on a stand-in and keeps what they did."""

    def __init__(self, chain: StreamOwner, attributes: dict[str, Any]) -> None:
        super().__init__(chain, attributes)
        self.records: list[tuple[bytes, bytes]] = []
        self.effects: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.usable = True
        self.dropped = lambda *a: self.effects.append((chain.dropped, a))
        self.filtered = lambda *a: self.effects.append((chain.filtered, a))
        self.failed = lambda *a: self.effects.append((chain.failed, a))
        self.time: int | None = None

    def out(self, entry: Entry) -> None:
        if entry.body != _STAND_IN or entry.timestamp != self.time:
            self.usable = False
        self.records.append((encode.group_key(entry), encode.record_rest(entry)))

    def state(self, operator: Operator) -> dict[Any, Any]:
        return {}


class Stream(PlainStream):
    """One file's way through a compiled chain; the interface is `PlainStream`'s."""

    def __init__(self, chain: StreamOwner, attributes: Any, plan: Plan | None) -> None:
        super().__init__(chain, attributes)
        self._plan = plan
        self._fast: Callable[[bytes, int], int] | None = None
        self._crio = False
        self._engine = "re"
        self._outcomes = 0
        self._memos: dict[bytes, dict[Any, Any]] = {b"o": {}, b"e": {}}
        self.lines = self.misses = 0
        if plan is not None:
            self._crio = plan.container is not None and plan.container.config.format == "crio"
            self._choose()

    def feed_chunk(self, chunk: bytes, observed_ns: int) -> None:
        fast = self._fast
        if fast is None or not chunk.endswith(b"\n"):
            lines = chunk.split(b"\n")
            if not lines[-1]:
                lines.pop()
            super().feed_entries(lines, observed_ns)
            return
        if not chunk.isascii():
            try:
                chunk.decode()
            except UnicodeDecodeError:
                chunk = chunk.decode("utf-8", "replace").encode()
        count = fast(chunk, observed_ns)
        # Not in one line: lines that were not plain have changed the count meanwhile.
        self._count += count
        if self.lines > 1000:
            self._adapt()

    def feed_entries(self, entries: Sequence[bytes | str], observed_ns: int,
                     extra: Sequence[Mapping[str, Any]] | None = None) -> None:
        if self._fast is not None and extra is None and entries:
            chunk = b"\n".join([e if isinstance(e, bytes) else e.encode("utf-8", "replace") for e in entries]) + b"\n"
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

    def _adapt(self) -> None:
        """Python's `re` is faster where lines match early, RE2 where many do not match at all."""
        engine = "re2" if self.misses * 100 > self.lines * 42 else "re"
        self.lines = self.misses = 0
        if engine != self._engine:
            self._engine = engine
            self._choose()

    def _choose(self) -> None:
        assert self._plan is not None
        self._fast = compile_feed(self._plan, self, self._crio, self._engine)

    # What the generated function calls.

    def slow(self, line: bytes, observed_ns: int) -> bool:
        """One line through the operators, one by one; returns whether partial lines wait for the next ones."""
        assert self._plan is not None
        self.feed(line, observed_ns)
        container = self._plan.container
        return container is not None and bool(self._states.get(container))

    def second(self, text: bytes) -> int:
        """Unix nanoseconds of a time without fraction, -1 for one the operators have to refuse."""
        try:
            return _SECOND.parse(text.decode())
        except TimeError:
            return -1

    def resolve(self, io: bytes, word: Any) -> Any:
        """What the function looks up for these words: (extend, heads, other fields), or an `Outcome` of another shape."""
        assert self._plan is not None
        recorder = _Recorder(self.chain, self.attributes)
        attributes = deep(self.attributes)
        lifts = self._plan.lifts
        words = word if len(lifts) > 1 else (word,)
        body = _STAND_IN
        if self._plan.container is not None:
            zone = "+00:00" if self._crio else "Z"
            body = f"2000-01-01T00:00:00.000000000{zone} {'stdout' if io == b'o' else 'stderr'} F {_STAND_IN}"
            recorder.time = _STAND_IN_TIME
        entry = Entry(body, attributes, dict(self.chain.resource), 0)
        entry.lifted = {lift.key: lift.value(w) for lift, w in zip(lifts, words, strict=False)}
        if self.chain.operators:
            self.chain.operators[0].process(entry, recorder)
        else:
            recorder.out(entry)
        self._outcomes += 1
        if not recorder.usable or self._outcomes > MAX_OUTCOMES:
            # Operators failed on the line itself, or the words differ too much: from the next chunk on one by one.
            self._fast = None
            return None
        found: Any = Outcome(recorder.records, recorder.effects)
        if len(found.records) == 1 and not found.effects:
            key, rest = found.records[0]
            times = 18 if recorder.time is not None else 9
            found = (self._groups.setdefault(key, []).extend, heads(len(rest) + times), rest)
        self._memos[io][word] = found
        return found

    def other(self, outcome: Outcome, body: bytes, times: bytes) -> int:
        """Does what an outcome of an unusual shape says; returns the number of records."""
        for function, arguments in outcome.effects:
            function(*arguments)
        for key, rest in outcome.records:
            head = heads(len(rest) + len(times))[len(body)]
            self._groups.setdefault(key, []).extend((head, body, rest, times))
        return len(outcome.records)


_code: dict[str, Any] = {}


def compile_feed(plan: Plan, stream: Stream, crio: bool, engine: str) -> Callable[[bytes, int], int]:
    """The function `feed(chunk, observed_ns) -> records` for this stream."""
    source, bound = _source(plan, crio, engine)
    code = _code.get(source)
    if code is None:
        name = f"<kofagent operators {hashlib.sha256(source.encode()).hexdigest()[:12]}>"
        code = _code[source] = compile(source, name, "exec")
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    space: dict[str, Any] = {}
    exec(code, space)  # noqa: S102  (the source has no text of a user in it)
    return space["make"](stream, stream._memos, bound)


def _line_pattern(plan: Plan, crio: bool) -> Any:
    return re.compile(_LINE % (rb"([+-][0-9]{2}:[0-9]{2})" if crio else b"Z")).findall


_TIMES = Struct("<BQBQ").pack


def _source(plan: Plan, crio: bool, engine: str) -> tuple[str, dict[str, Any]]:
    """The source of the function and what its names are bound to."""
    bound: dict[str, Any] = {"times": _TIMES, "U": _UNANCHORED}
    words: list[str] = []
    body: list[str] = []
    for i, lift in enumerate(plan.lifts):
        words.append(f"w{i}")
        body += _lift_code(i, lift, engine, bound, len(plan.lifts) == 1)
    word = words[0] if len(words) == 1 else f"({', '.join(words)})" if words else "None"
    container = plan.container is not None
    if container:
        bound["findall"] = _line_pattern(plan, crio)
        groups, when = ("sec, frac, zone, io, body", "sec + zone") if crio else ("sec, frac, io, body", "sec + b'Z'")
        # `last` is the second `base` belongs to. None sends the next line the long way: the first one, and any line
        # behind one that was not plain. `remaining` counts the lines behind the current one.
        loop = [
            "lines = iter(findall(chunk))",
            "remaining = lines.__length_hint__",
            f"for {groups} in lines:",
            f"    if {'last is None or sec + zone' if crio else 'sec'} != last:",
            f"        if waiting or not sec or (base := second({when})) < 0:",
            "            raw = raw or chunk.split(b'\\n')",
            "            waiting = slow(raw[-2 - remaining()], observed)",
            "            last = None",
            "            continue",
            f"        last = {'sec + zone' if crio else 'sec'}",
        ]
        times, memo, io = "times(9, base + int(frac), 89, observed)", "memos[io]", "io"
    else:
        loop = ["for body in chunk[:-1].split(b'\\n'):"]
        times, memo, io = "when", "memo", "b'o'"
    loop += ["    " + line for line in body]
    loop += [
        "    try:",
        f"        extend, heads, rest = {memo}[{word}]",
        "    except KeyError:",
        f"        found = resolve({io}, {word})",
        "        if found is None:",
        *(["            raw = raw or chunk.split(b'\\n')", "            waiting = slow(raw[-2 - remaining()], observed)",
           "            last = None"] if container else ["            slow(body, observed)"]),
        "            continue",
        "        if found.__class__ is Outcome:",
        f"            n += other(found, body, {times})",
        "            continue",
        "        extend, heads, rest = found",
        "    except TypeError:",
        f"        n += other({memo}[{word}], body, {times})",
        "        continue",
        f"    extend((heads[len(body)], body, rest, {times}))",
        "    n += 1",
    ]
    names = sorted(bound)
    text = ["def make(stream, memos, bound):"]
    text += [f"    {name} = bound[{name!r}]" for name in names]
    text += [
        "    slow, second, resolve, other = stream.slow, stream.second, stream.resolve, stream.other",
        "    Outcome = bound_outcome",
        "    def feed(chunk, observed):",
        "        n = misses = 0",
    ]
    if container:
        text += ["        raw = last = None", "        waiting = stream.held > 0"]
    else:
        text += ["        memo = memos[b'o']", "        when = b'\\x59' + observed.to_bytes(8, 'little')"]
    text += ["        " + line for line in loop]
    text += ["        stream.lines += n", "        stream.misses += misses", "        return n", "    return feed"]
    text[text.index("    Outcome = bound_outcome")] = "    Outcome = bound['Outcome']"
    bound["Outcome"] = Outcome
    return "\n".join(text) + "\n", bound


def _lift_code(i: int, lift: Lift, engine: str, bound: dict[str, Any], only: bool) -> list[str]:
    """The lines that compute word `i` from `body`."""
    name = f"x{i}"
    search = lift.search
    if lift.kind in ("contains", "starts", "ends", "equals"):
        bound[name] = lift.bound
        return [{"contains": f"w{i} = {name} in body", "starts": f"w{i} = body.startswith({name})",
                 "ends": f"w{i} = body.endswith({name})", "equals": f"w{i} = body == {name}"}[lift.kind]]
    if lift.kind == "call":
        bound[name] = _guarded(lift.bound)
        return [f"w{i} = {name}(body)"]
    if search is not None and engine == "re":
        bound[name] = search.search
        text = "body.lower()" if search.lower else "body"
        if lift.kind == "test":
            return [f"w{i} = {name}({text}) is not None"]
        lines = [f"m = {name}({text})", "if m is None:", f"    w{i} = None", "    misses += 1", "else:"]
        if search.whole:
            return [*lines, "    s, e = m.span()", f"    w{i} = body[s:e]"]
        parts = ", ".join([f"body[m.start({g}):m.end({g})] if m.start({g}) >= 0 else b''" for g in search.groups])
        return [*lines, f"    w{i} = ({parts})"]
    if lift.kind == "test":
        bound[name] = lift.bound._match
        return [f"w{i} = {name}(U, body, 0, len(body))[0][0] >= 0"]
    if search is not None and search.whole:
        bound[name] = Pattern(search.re2_source)._match
        return [f"(s, e), = {name}(U, body, 0, len(body))", "if s < 0:", f"    w{i} = None", "    misses += 1", "else:",
                f"    w{i} = body[s:e]"]
    bound[name] = lift.bound._match
    numbers = [number for _, number in lift.bound.names]
    parts = ", ".join([f"body[m[{g}][0]:m[{g}][1]] if m[{g}][0] >= 0 else b''" for g in numbers])
    return [f"m = {name}(U, body, 0, len(body))", "if m[0][0] < 0:", f"    w{i} = None", "    misses += 1", "else:",
            f"    w{i} = ({parts})"]


def _guarded(evaluate: Callable[[Entry, dict[str, Any]], Any]) -> Callable[[bytes], Any]:
    """A condition on the body; an error becomes a text, which raises where an operator asks."""

    def run(body: bytes) -> Any:
        try:
            return evaluate(Entry(body.decode("utf-8", "replace"), {}, {}, 0), {})
        except ExpressionError as error:
            return str(error)

    return run


def feed_source(plan: Plan, *, crio: bool, engine: str) -> str:
    """The generated source, to be read."""
    return _source(plan, crio, engine)[0]


def describe(lift: Lift) -> str:
    """What a lift computes, in words."""
    if isinstance(lift.key, RegexParser):
        return f"the groups {', '.join(n for n, _ in lift.bound.names)} of {lift.key.id}'s pattern {lift.bound.source!r}"
    return f"a condition on the body ({lift.kind})"
