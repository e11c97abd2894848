"""Statements and conditions on records and data points become one Python function over their bytes (`item.Item`).

What of an expression depends only on the resource, the scope or the metric around an item is evaluated once for all of its items
(`Compiled.bind`), by the plain evaluator, as are statements that change nothing but the cache and read nothing of the item.
Conditions that ask for an attribute or a text name bytes that an item must have for them to be true or to fail: an item without
them, and a payload without them, is not looked into. A statement that cannot be compiled is run by the evaluator, on the decoded
message, from where on the rest of the item's statements are run that way. What the evaluator makes is the reference.

Values of users are bound to names, never written into the source.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from hashlib import blake2b
from typing import Any, NamedTuple

from kofagent.ottl import expressions, item_access
from kofagent.ottl.condition import Condition, Statement
from kofagent.ottl.env import Env
from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.expressions import Emitter, Needed, Plain, has_one
from kofagent.ottl.item import ATTRIBUTES, item_class
from kofagent.ottl.messages import read

Failed = Callable[[int, EvaluationError], None]
"""Told of what could not be run: the number of the statement, or -1, -2, ... of a condition."""
Run = Callable[[Sequence[bytes]], list[bytes]]
_SLOTS = {"log": "log", "span": "span", "metric": "metric"}


class Slow(Exception):
    """What surrounds the items makes a statement fail: the evaluator is asked for each item."""


class Compiled(NamedTuple):
    """Conditions and statements of a context, compiled."""

    context: str
    source: str
    factory: Callable[..., Run]
    steps: tuple[Any, ...]
    """What is done once for what surrounds the items, in order: a `Statement`, or a `Read` whose value goes to the function."""
    statements: tuple[Statement, ...]
    fields: frozenset[str]
    needs: tuple[Needed, ...] | None
    """A payload that has none of these sets of bytes is not changed. None where it has to be looked into."""
    uses_metric: bool

    def wanted(self, payload: bytes) -> bool:
        """Whether something in the payload may be changed."""
        return self.needs is None or has_one(payload, self.needs)

    def bind(self, env: Env, failed: Failed, number: int = 0) -> Run:
        """The function for the items that `env` surrounds. `number` is the field of their attributes, for data points.

        It gives an item that is not changed back as the same object. Slow.
        """
        values = []
        try:
            for step in self.steps:
                if isinstance(step, Statement):
                    step.apply(env)
                else:
                    value = step(env)
                    # A later statement may change what is in the cache.
                    values.append(deepcopy(value) if isinstance(value, dict | list) else value)
        except EvaluationError:
            raise Slow from None
        finally:
            env.cache = {}
        made = item_class(self.context, self.fields, number or ATTRIBUTES[self.context])
        return self.factory(made, failed, self._message(env), self._plain(failed), *values)

    def _message(self, around: Env) -> Callable[..., Env]:
        context = self.context

        def message(data: bytes, cache: dict[str, Any] | None = None) -> Env:
            env = Env(around.resource, around.scope, around.metadata)
            if cache is not None:
                env.cache = cache
            env.resource_entry, env.scope_entry = around.resource_entry, around.scope_entry
            setattr(env, context, read(context, data))
            env.complain = around.complain
            return env

        return message

    def _plain(self, failed: Failed) -> Callable[[int, Env], None]:
        statements = self.statements

        def plain(i: int, env: Env) -> None:
            try:
                statements[i].apply(env)
            except EvaluationError as error:
                failed(i, error)

        return plain


def compile_group(
    context: str, conditions: Sequence[Condition], statements: Sequence[Statement], *, test: bool = False
) -> Compiled | None:
    """The compiled form of a group; None where the evaluator has to run all of it.

    `test`: there are only conditions, and instead of items the function gives, for each, whether one of them is true.
    """
    if context not in expressions.COMPILED or expressions.changes_around(context, statements):
        return None
    try:
        try:
            return _Group(context, conditions, statements, test, cache=True).compiled()
        except expressions.CacheOfItem:
            return _Group(context, conditions, statements, test, cache=False).compiled()
    except Plain:
        return None


class _Group:
    def __init__(
        self, context: str, conditions: Sequence[Condition], statements: Sequence[Statement], test: bool, *, cache: bool
    ) -> None:
        self.context = context
        self.conditions = conditions
        self.statements = statements
        self.test = test
        self.emitter = Emitter(context, cache)
        self.lines: list[str] = []
        self.compiled_statements = 0
        self.added: list[str] | None = [] if not conditions and not test else None
        """Sources of the entries that the statements add to items, where that is all they do."""

    def compiled(self) -> Compiled:
        """The group's function. Plain where nothing is gained, CacheOfItem where the cache belongs to the items."""
        needs = self._conditions()
        self._statements()
        if self.statements and not self.compiled_statements and needs is None and not self.conditions:
            raise Plain
        body = "".join(f"            {line}\n" for line in self.lines)
        outer = "".join(f", {name}" for name in self.emitter.outer)
        source = (
            f"def bind(Item, failed, message, plain{outer}):\n"
            "    def run(records):\n"
            "        out = []\n"
            "        add = out.append\n"
            "        for r in records:\n"
            f"{body}"
            "        return out\n"
            f"    return {self._run()}\n"
        )
        return Compiled(
            self.context,
            source,
            load(source, self.emitter.bound),
            tuple(self.emitter.steps),
            tuple(self.statements),
            frozenset(self.emitter.fields),
            needs,
            self.emitter.uses_metric,
        )

    def _conditions(self) -> tuple[Needed, ...] | None:
        none = "False" if self.test else "r"
        if not self.conditions:
            self._item()
            return self._needs_of_statements()
        tests = []
        alternatives: list[Needed] | None = []
        for condition in self.conditions:
            emitter = self.emitter.of(condition.qualified, "conditions")
            tests.append(emitter.condition(condition.tree))
            needed = emitter.needs(condition.tree)
            alternatives = None if needed is None or alternatives is None else [*alternatives, *needed]
        if alternatives is not None:
            self._prefilter(alternatives, none)
        self._item()
        if len(tests) > 1:
            self.lines.append("ok = False")
        for j, test in enumerate(tests):
            indent = ""
            if len(tests) > 1 and j:
                self.lines.append("if not ok:")
                indent = "    "
            self.lines += [
                f"{indent}try:",
                f"{indent}    ok = {test}",
                f"{indent}except EvaluationError as error:",
                f"{indent}    failed({-1 - j}, error)",
                f"{indent}    ok = False",
            ]
        if self.test:
            self.lines.append("add(ok)")
        else:
            self.lines += ["if not ok:", "    add(r)", "    continue"]
        return None if alternatives is None else tuple(alternatives)

    def _run(self) -> str:
        return f"adding(Item, run, ({', '.join([*self.added, ''])}))" if self.added else "run"

    def _item(self) -> None:
        self.lines.append("it = Item(r)")
        if not self.emitter.cache:
            self.lines.append("it.cache = {}")

    @property
    def _decoded(self) -> str:
        return "message(it.r)" if self.emitter.cache else "message(it.r, it.cache)"

    def _prefilter(self, alternatives: list[Needed], none: str) -> None:
        found = [" and ".join(map(self._has, parts)) for parts in alternatives]
        self.lines += [f"if not ({' or '.join(found) or 'False'}):", f"    add({none})", "    continue"]

    def _has(self, part: bytes | re.Pattern[bytes]) -> str:
        # hot: otlp_transform_kof, 0.15 us a look: `in` for bytes makes an exception, which it then forgets, 0.3 us
        return f"r.count({self.emitter.bind(part)})" if isinstance(part, bytes) else f"{self.emitter.bind(part.search)}(r)"

    def _needs_of_statements(self) -> tuple[Needed, ...] | None:
        """What an item must have for one of the statements to be run."""
        alternatives: list[Needed] = []
        for statement in self.statements:
            emitter = self.emitter.of(statement.qualified, "statements")
            needed = None if statement.tree.where is None else emitter.needs(statement.tree.where)
            if needed is None:
                return None
            alternatives += needed
        return tuple(alternatives)

    def _statements(self) -> None:
        if self.test:
            return
        decoded = False
        for i, statement in enumerate(self.statements):
            emitter = self.emitter.of(statement.qualified, "statements")
            if emitter.is_outer(statement):
                self.emitter.steps.append(statement)
                self.compiled_statements += 1
                continue
            mark = emitter.mark()
            emitter.added = None
            try:
                lines = emitter.statement(statement.tree)
                self.compiled_statements += 1
            except Plain:
                emitter.forget(mark)
                if self.context == "datapoint" or emitter.uses_cache(statement):
                    emitter.give_up_cache()
                lines = None
            more = None if lines is None or statement.tree.where is not None else emitter.added
            self.added = None if self.added is None or more is None else [*self.added, more]
            if lines is not None:
                self._compiled_statement(i, lines, decoded)
            else:
                self._plain_statement(i, statement, emitter, decoded)
                decoded = True
        if decoded:
            slot = _SLOTS[self.context]
            self.lines.append(f"add(it.r if m is None else m.{slot}.SerializeToString())")
        else:
            self.lines.append("add(it.r)")

    def _compiled_statement(self, i: int, lines: list[str], decoded: bool) -> None:
        indent = ""
        if decoded:
            self.lines += ["if m is not None:", f"    plain({i}, m)", "else:"]
            indent = "    "
        self.lines.append(f"{indent}try:")
        self.lines += [f"{indent}    {line}" for line in lines]
        self.lines += [f"{indent}except EvaluationError as error:", f"{indent}    failed({i}, error)"]

    def _plain_statement(self, i: int, statement: Statement, emitter: Emitter, decoded: bool) -> None:
        if self.context == "datapoint":
            raise Plain
        if not decoded:
            self.lines.append("m = None")
        where = None
        if statement.tree.where is not None:
            mark = emitter.mark()
            try:
                where = emitter.condition(statement.tree.where)
            except Plain:
                emitter.forget(mark)
        if where is None:
            self.lines += ["if m is None:", f"    m = {self._decoded}"]
        else:
            self.lines += [
                "if m is None:",
                "    try:",
                f"        if {where}:",
                f"            m = {self._decoded}",
                "    except EvaluationError as error:",
                f"        failed({i}, error)",
            ]
        self.lines += ["if m is not None:", f"    plain({i}, m)"]


def load(source: str, bound: dict[str, Any]) -> Callable[..., Run]:
    """The factory that this source makes with these names. The source can be seen in tracebacks."""
    name = f"<ottl {blake2b(source.encode(), digest_size=6).hexdigest()}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    names = {**item_access.NAMES, **bound}
    exec(compile(source, name, "exec"), names)  # noqa: S102 - the source is ours: values of users are names in it
    return names["bind"]  # type: ignore[no-any-return]


def condition_of(conditions: Sequence[Condition], context: str) -> Compiled | None:
    """What gives, for items, whether one of the conditions is true of each; None where it has to be evaluated on messages."""
    return compile_group(context, conditions, (), test=True)
