"""The interface of the room: parses text to conditions, values and statements that can be run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kofagent.ottl import ast
from kofagent.ottl.env import Env, Read
from kofagent.ottl.errors import OttlError
from kofagent.ottl.evaluate import Builder
from kofagent.ottl.infer import infer, nodes
from kofagent.ottl.parser import Parser
from kofagent.telemetry.batch import Metadata

_NO_RECORD = ("resource", "scope", "request", "otelcol")
"""Contexts whose item is not a record."""


class Condition:
    """A boolean expression of one context; `text` as it was written."""

    __slots__ = ("_slot", "context", "qualified", "test", "text", "tree")

    def __init__(
        self, text: str, context: str, test: Callable[[Env], bool], tree: ast.Node = None, qualified: bool = False
    ) -> None:
        self.text = text
        self.tree = tree
        self.qualified = qualified
        self.context = context
        self.test = test
        self._slot = "" if context in _NO_RECORD else context

    def matches(
        self,
        resource: Any,
        scope: Any = None,
        record: Any = None,
        metric: Any = None,
        metadata: Metadata | None = None,
        *,
        span: Any = None,
        entries: tuple[Any, Any] = (None, None),
    ) -> bool:
        """Whether it is true of these messages (Google's protobuf).

        `record` is the item of the context: LogRecord, Span, Span.Event, Metric or a data point (then with its `metric`;
        an event with its `span`). `entries` are the messages around resource and scope, for their schema_url.
        EvaluationError where the expression does not fit the data.
        """
        env = Env(resource, scope, metadata)
        env.resource_entry, env.scope_entry = entries
        env.span, env.metric = span, metric
        if self._slot:
            setattr(env, self._slot, record)
        return self.test(env)

    def __repr__(self) -> str:
        return f"<Condition {self.context}: {self.text}>"


class Value:
    """A value expression of one context."""

    __slots__ = ("_condition",)

    def __init__(self, text: str, context: str, read: Read) -> None:
        self._condition = Condition(text, context, read)

    def get(self, *messages: Any, **around: Any) -> Any:
        """Its value for these messages, which are given as to `Condition.matches`."""
        return self._condition.matches(*messages, **around)


class Statement:
    """`editor(...) where condition` of one context."""

    __slots__ = ("context", "qualified", "run", "test", "text", "tree")

    def __init__(
        self,
        text: str,
        context: str,
        run: Callable[[Env], None],
        test: Callable[[Env], bool] | None,
        tree: ast.Statement,
        qualified: bool = False,
    ) -> None:
        self.text = text
        self.tree = tree
        self.qualified = qualified
        self.context = context
        self.run = run
        self.test = test

    def apply(self, env: Env) -> None:
        """Does what it says where its condition is true. EvaluationError where that cannot be done."""
        if self.test is None or self.test(env):
            self.run(env)

    def __repr__(self) -> str:
        return f"<Statement {self.context}: {self.text}>"


def parse_condition(text: str, context: str, *, qualified: bool = False, user: str = "conditions") -> Condition:
    """A condition such as `attributes["a"] == "b" and severity_number >= SEVERITY_NUMBER_WARN`.

    `context` is one of resource, scope, log, span, spanevent, metric, datapoint, exemplar, request, otelcol. OttlError with column
    and suggestion. `qualified` and `user` as `Builder`.
    """
    tree = Parser(text).condition()
    return Condition(text, context, Builder(context, qualified=qualified, user=user).condition(tree), tree, qualified)


def parse_value(text: str, context: str) -> Value:
    """A value such as `Concat([resource.attributes["a"], name], "/")`. OttlError with column and suggestion."""
    return Value(text, context, Builder(context).value(Parser(text).value()))


def parse_statement(text: str, context: str, *, qualified: bool = False, user: str = "statements") -> Statement:
    """A statement such as `set(attributes["a"], 1) where name == "b"`. OttlError as above."""
    tree = Parser(text).statement()
    builder = Builder(context, qualified=qualified, user=user)
    run = builder.editor(tree.editor)
    test = None if tree.where is None else builder.condition(tree.where)
    return Statement(text, context, run, test, tree, qualified)


def parse_route(text: str, context: str) -> tuple[Callable[[Env], None] | None, Condition | None]:
    """What `editor(...) where condition` of a route changes, None for `route()`, and its condition, None without one."""
    tree = Parser(text).statement()
    builder = Builder(context, user="routing")
    if tree.editor.name == "route" and tree.editor.arguments:
        raise OttlError("route() takes no arguments", tree.editor.column)
    edit = None if tree.editor.name == "route" else builder.editor(tree.editor)
    return edit, None if tree.where is None else Condition(text, context, builder.condition(tree.where), tree.where)


def named_contexts(conditions: Iterable[str], statements: Iterable[str] = ()) -> set[str]:
    """The first names of all paths. OttlError as the parsers."""
    trees = [*(Parser(text).condition() for text in conditions), *(Parser(text).statement() for text in statements)]
    return {node.fields[0].name for tree in trees for node in nodes(tree) if isinstance(node, ast.Path)}


def infer_context(conditions: Iterable[str], contexts: Iterable[str], *, statements: Iterable[str] = ()) -> str:
    """The context that the paths of conditions and statements are written for, one of `contexts`. OttlError as the parsers."""
    trees = [*(Parser(text).condition() for text in conditions), *(Parser(text).statement() for text in statements)]
    return infer(trees, contexts, "statement" if statements else "condition")
