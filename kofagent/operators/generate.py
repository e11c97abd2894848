"""Writes the source of compiled chains. Two shapes, both `feed(chunk, observed_ns) -> records made here`:

- *outcomes*: no entry is made; words of the line select what the operators made of the same words before;
- *entries*: an entry is made of each line and the operators follow one another in line, the simple ones as plain statements.

Values of users are in `bound`, under names of ours; the text of the source depends only on the kinds of operators.
"""

from __future__ import annotations

import re
from typing import Any

from kofagent.operators.expression import Expression, ExpressionError
from kofagent.operators.expression.ast import Node
from kofagent.operators.field import MISSING, Field, FieldError
from kofagent.operators.fields import Add, Copy, Move, Noop, Remove
from kofagent.operators.lift import Lift, lift_code
from kofagent.operators.operator import Operator, OperatorError, Transformer

Bound = dict[str, Any]


class Shape:
    """Which lines are parsed here: `containerd`, `crio` or `docker`; with `lines` each is a body."""

    def __init__(self, kind: str) -> None:
        self.container = kind != "lines"
        self.crio = kind == "crio"
        self.docker = kind == "docker"


def outcomes_source(shape: Shape, lifts: list[Lift], engine: str, bound: Bound) -> str:
    """The source of the first shape."""
    # hot: log_line, 1.3 to 1.7 us a line of 120 bytes: no entry, no dict, no encoding; one lookup for all that repeats
    words = [f"w{i}" for i in range(len(lifts))]
    word = words[0] if len(words) == 1 else f"({', '.join(words)})" if words else "None"
    times = "times(9, base + int(frac), 89, observed)" if shape.container else "when"
    memo, io = ("memos[io]", "io") if shape.container else ("memo", "b'o'")
    inner: list[str] = []
    for i, lift in enumerate(lifts):
        inner += lift_code(i, lift, engine, bound)
    inner += [
        "try:",
        f"    extend, heads, rest = {memo}[{word}]",
        "except KeyError:",
        f"    found = resolve({io}, {word})",
        "    if found is None:",
        *_indent(_slow(shape), 2),
        "        continue",
        "    if found.__class__ is Outcome:",
        f"        n += other(found, body, {times})",
        "        continue",
        "    extend, heads, rest = found",
        "except TypeError:  # an Outcome",
        f"    n += other({memo}[{word}], body, {times})",
        "    continue",
        f"extend((heads[len(body)], body, rest, {times}))",
        "n += 1",
    ]
    before = ["n = misses = 0"]
    if not shape.container:
        before += ["memo = memos[b'o']", "when = b'\\x59' + observed.to_bytes(8, 'little')"]
    return _function(
        shape, "body", bound, before=before, inner=inner, after=["stream.lines += n", "stream.misses += misses", "return n"]
    )


def entries_source(shape: Shape, operators: list[Operator], bound: Bound) -> str:
    """The source of the second shape; `operators` are those behind `container`."""
    bound.update(MISSING=MISSING, Errors=(OperatorError, FieldError, ExpressionError))
    if shape.container:
        text = "text" if shape.docker else "body.decode()"
        inner = [f"entry = Entry({text}, copy(attributes[io]), copy(resource), observed)", "entry.timestamp = base + int(frac)"]
    else:
        inner = ["entry = Entry(body, copy(attributes), copy(resource), observed)"]
    end = "out(entry)"
    for i, operator in enumerate(operators):
        following = operators[i + 1] if i + 1 < len(operators) else None
        if type(operator).process is not Transformer.process or operator.outputs != [following]:
            bound[f"process{i}"] = operator.process
            end = f"process{i}(entry, stream)  # {operator.config.type}"
            break
        inner += _operator(i, operator, bound)
    return _function(shape, "text", bound, before=[], inner=[*inner, end], after=["return 0"])


def _indent(lines: list[str], by: int) -> list[str]:
    return ["    " * by + line for line in lines]


def _slow(shape: Shape) -> list[str]:
    """The current line through the operators, one by one. `last = None` sends the next line the long way too."""
    if not shape.container:
        return ["slow(body, observed)"]
    if shape.docker:
        return ["slow(line.encode(), observed)"]
    return ["raw = raw or chunk.split(b'\\n')", "waiting = slow(raw[-2 - remaining()], observed)", "last = None"]


def _function(shape: Shape, lines: str, bound: Bound, *, before: list[str], inner: list[str], after: list[str]) -> str:
    if shape.docker:
        before = [*before, "last = None"]
        # Exactly the three texts: anything else is the operators' to judge.
        loop = [
            "for line in chunk[:-1].decode().split('\\n'):",
            "    try:",
            "        if line[0] != '{':",
            "            raise ValueError",
            "        found = loads(line)",
            "        text, io, sec = found.pop('log'), streams[found.pop('stream')], found.pop('time')",
            "        frac = fraction(sec[19:])[1] or ''",
            "        sec = sec[:19]",
            "        body = text.encode()",
            "        if found or (sec != last and (base := second(sec.encode() + b'Z')) < 0):",
            "            raise ValueError",
            "    except Unusual:",
            *_indent(_slow(shape), 2),
            "        last = None",
            "        continue",
            "    last = sec",
            "    frac = frac[:9].ljust(9, '0')",
        ]
    elif shape.container:
        seconds, groups = ("sec + zone", "sec, frac, zone, io, body") if shape.crio else ("sec", "sec, frac, io, body")
        before = [
            *before,
            "raw = last = None",
            "waiting = stream.held > 0",
            "lines = iter(findall(chunk))",
            "remaining = lines.__length_hint__",
        ]
        loop = [
            f"for {groups} in lines:",
            f"    if {'last is None or ' if shape.crio else ''}{seconds} != last:",
            f"        if waiting or not sec or (base := second({'sec + zone' if shape.crio else 'sec + b' + repr('Z')})) < 0:",
            *_indent(_slow(shape), 3),
            "            continue",
            f"        last = {seconds}",
        ]
    elif lines == "text":
        loop = ["for body in chunk[:-1].decode().split('\\n'):"]
    else:
        loop = ["for body in chunk[:-1].split(b'\\n'):"]
    feed = ["    def feed(chunk, observed):", *_indent([*before, *loop, *_indent(inner, 1), *after], 2), "    return feed"]
    used = set(re.findall(r"\w+", " ".join(feed)))
    names = [f"    {name} = bound[{name!r}]" for name in sorted(bound) if name in used]
    return "\n".join(["def make(stream, bound):", *names, *feed]) + "\n"


def _operator(i: int, operator: Operator, bound: Bound) -> list[str]:
    """One operator in line, with its condition and what becomes of errors."""
    config = operator.config
    bound[f"transform{i}"] = operator.transform  # type: ignore[attr-defined]
    work = _work(i, operator, bound)
    if config.if_ is not None:
        test = _test(f"c{i}", config.if_, bound)
        work = [f"if {test}:", *_indent(work, 1)]
    quiet = config.on_error.endswith("_quiet")
    handle = [] if quiet else [f"failed(operator{i}, error, {config.on_error!r})"]
    if config.on_error.startswith("drop"):
        handle += [f"dropped(drop{i}, 1)", "continue"]
        bound[f"drop{i}"] = f"operator/{operator.id}"
    if not quiet:
        bound[f"operator{i}"] = operator
    return ["try:  # " + config.type, *_indent(work, 1), "except Errors as error:", *_indent(handle or ["pass"], 1)]


def _place(name: str, field: Field, bound: Bound) -> str | None:
    """The dict a field is a member of, its key bound to `name`; None for the body and for what is further down."""
    if field.root == "body" or len(field.keys) != 1:
        return None
    bound[name] = field.keys[0]
    return f"entry.{field.root}"


def _work(i: int, operator: Operator, bound: Bound) -> list[str]:
    config = operator.config
    plain = [f"transform{i}(entry)"]
    if type(operator) is Noop:
        return ["pass"]
    if type(operator) is Add and config.expression is None and isinstance(config.value, str | int | float):
        place = _place(f"k{i}", config.field, bound)
        if place is not None:
            bound[f"v{i}"] = config.value
            return [f"{place}[k{i}] = v{i}"]
    if type(operator) is Remove:
        place = _place(f"k{i}", config.field, bound)
        if place is not None:
            # Missing: the operator itself says so.
            return [f"if {place}.pop(k{i}, MISSING) is MISSING:", f"    transform{i}(entry)"]
    if type(operator) in (Move, Copy):
        source = _place(f"k{i}", config.from_, bound)
        target = "entry.body" if config.to == Field("body", ()) else _place(f"t{i}", config.to, bound)
        if source is not None and target is not None:
            write = f"{target} = v" if target == "entry.body" else f"{target}[t{i}] = v"
            remove = [f"    del {source}[k{i}]"] if type(operator) is Move else []
            # Only text here: maps are merged and have to be copied.
            return [
                f"v = {source}.get(k{i})",
                "if v.__class__ is str:",
                *remove,
                f"    {write}",
                "else:",
                f"    transform{i}(entry)",
            ]
    return plain


def _test(name: str, expression: Expression, bound: Bound) -> str:
    """A condition as Python; where the kinds of values are not known before, as a call."""
    found = _condition(name, expression.root, bound)
    if found is not None:
        return found
    bound[name] = expression.test
    return f"{name}(entry)"


def _condition(name: str, node: Node, bound: Bound) -> str | None:
    """A node that is a boolean for any entry, as Python; None when it may be something else or fail."""
    if node.kind == "const" and isinstance(node.value, bool):
        return str(node.value)
    parts = node.children
    if node.kind == "unary" and node.value == "not":
        inner = _condition(name + "n", parts[0], bound)
        return None if inner is None else f"(not {inner})"
    if node.kind != "binary":
        return None
    if node.value in ("and", "or"):
        left, right = _condition(name + "l", parts[0], bound), _condition(name + "r", parts[1], bound)
        return None if left is None or right is None else f"({left} {node.value} {right})"
    if node.value == "in" and isinstance(parts[0].value, str) and parts[0].kind == "const" and _root(parts[1]):
        bound[name] = parts[0].value
        return f"({name} in entry.{parts[1].value})"
    if (
        node.value in ("==", "!=")
        and parts[1].kind == "const"
        and isinstance(parts[1].value, str)
        and parts[0].kind == "member"
        and _root(parts[0].children[0])
    ):
        key = parts[0].children[1]
        if key.kind == "const" and isinstance(key.value, str):
            bound[name], bound[name + "k"] = parts[1].value, key.value
            return f"(entry.{parts[0].children[0].value}.get({name}k) {node.value} {name})"
    return None


def _root(node: Node) -> bool:
    return node.kind == "name" and node.value in ("attributes", "resource")
