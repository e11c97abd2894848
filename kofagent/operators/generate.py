"""Writes the source of compiled chains. Two shapes, both `feed(chunk, observed_ns) -> records made here`:

- *outcomes*: no entry is made; words of the line select what the operators made of the same words before;
- *entries*: an entry is made of each line and the operators follow one another in line, as they say themselves (`emit`).

Values of users are bound to names of ours; the text of the source depends only on the types of operators and on whether their
options have a short form.

Names in the source, with `i` the number of a lift or of an operator, both from 0:

    n          records made in this call          w{i}       word i: what lift i found in the body
    s, e       start and end of a match           x{i}       what lift i searches for, or searches with
    m          a match                            U          RE2's flag for a match anywhere
    v          a value that is being moved        k{i} t{i}  key that operator i reads, key that it writes
    io         stream, b'o' or b'e'               v{i}       value that operator i writes
    base frac  seconds and fraction of the time   c...{i}    what the condition of operator i compares with; k: a key
    sec last   text of the seconds, and the last  transform{i} skipped{i} process{i}   methods of operator i
"""

from __future__ import annotations

import re

from kofagent.operators.emit import Bound, Names, indent
from kofagent.operators.errors import DECLARED
from kofagent.operators.field import MISSING
from kofagent.operators.lift import Lift, lift_code
from kofagent.operators.line_formats import LineFormat
from kofagent.operators.operator import AnyOperator


def outcomes_source(format: LineFormat, lifts: list[Lift], engine: str, bound: Bound) -> str:
    """The source of the first shape."""
    # hot: log_line, 1.3 to 1.7 us a line of 120 bytes: no entry, no dict, no encoding; one lookup for all that repeats
    words = [f"w{i}" for i in range(len(lifts))]
    word = words[0] if len(words) == 1 else f"({', '.join(words)})" if words else "None"
    times = "times(9, base + int(frac), 89, observed)" if format.container else "when"
    memo, io = ("memos[io]", "io") if format.container else ("memo", "b'o'")
    inner: list[str] = []
    for i, lift in enumerate(lifts):
        inner += lift_code(i, lift, engine, bound)
    inner += [
        "try:",
        f"    extend, heads, rest = {memo}[{word}]",
        "except KeyError:",
        f"    found = resolve({io}, {word})",
        "    if found is None:",
        *indent(format.slow(), 2),
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
    if not format.container:
        before += ["memo = memos[b'o']", "when = b'\\x59' + observed.to_bytes(8, 'little')"]
    after = ["stream.lines += n", "stream.misses += misses", "return n"]
    return _function(format, False, bound, before=before, inner=inner, after=after)


def entries_source(format: LineFormat, operators: list[AnyOperator], bound: Bound) -> str:
    """The source of the second shape; `operators` are those behind the one that parses lines."""
    bound.update(MISSING=MISSING, DECLARED=DECLARED)
    if format.container:
        text = "text" if format.has_text else "body.decode()"
        inner = [f"entry = Entry({text}, copy(attributes[io]), copy(resource), observed)", "entry.timestamp = base + int(frac)"]
    else:
        inner = ["entry = Entry(body, copy(attributes), copy(resource), observed)"]
    end = "out(entry)"
    for i, operator in enumerate(operators):
        following = operators[i + 1] if i + 1 < len(operators) else None
        names = Names(i, bound)
        lines = operator.emit(names) if operator.outputs == [following] else None
        if lines is None:
            end = f"{names.bind('process', operator.process)}(entry, stream)  # {operator.config.type}"
            break
        inner += lines
    last = ["try:", *indent([end], 1), "except Exception as error:", "    broken(error)"]
    counted = any(operator.holds for operator in operators)
    return _function(format, True, bound, counted=counted, before=[], inner=[*inner, *last], after=["return 0"])


def _function(
    format: LineFormat, text: bool, bound: Bound, *, counted: bool = False, before: list[str], inner: list[str], after: list[str]
) -> str:
    ahead, loop = format.loop(text, counted)
    feed = ["    def feed(chunk, observed):", *indent([*before, *ahead, *loop, *indent(inner, 1), *after], 2), "    return feed"]
    used = set(re.findall(r"\w+", " ".join(feed)))
    names = [f"    {name} = bound[{name!r}]" for name in sorted(bound) if name in used]
    return "\n".join(["def make(stream, bound):", *names, *feed]) + "\n"
