"""The source of expressions and statements for `compile`: how far they depend on the item, and what they read of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kofagent.ottl import ast, item_access
from kofagent.ottl.access import Access
from kofagent.ottl.condition import Statement
from kofagent.ottl.env import Constant, Env, Read
from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.evaluate import Builder
from kofagent.ottl.functions import CONVERTERS, EDITORS
from kofagent.ottl.functions.core import COERCE, PREPARED, Function, Parameter
from kofagent.ottl.infer import nodes
from kofagent.ottl.item import encoded, head

COMPILED = ("log", "span", "metric", "datapoint")
"""Contexts whose items are compiled for."""
VARYING = frozenset(("Now", "UUID", "UUIDv7"))
"""Give something else each time."""
_ITEM_EDITORS = frozenset(
    ("set", "append", "clear", "replace_pattern", "replace_match", "replace_all_patterns", "replace_all_matches")
)
_ATTRIBUTES = {"metric": "metadata"}


_LITERAL = re.compile(r"\^?([A-Za-z0-9_/ @=%~-]{3,})")
_OF_OTHERS = "true false Infinity -Infinity NaN"


def _literal_of(pattern: Any) -> bytes:
    """A text that is in whatever string the RE2 expression is found in, and in no number, boolean or hex digits; or nothing."""
    match = _LITERAL.match(pattern) if isinstance(pattern, str) and "|" not in pattern else None
    if match is None:
        return b""
    literal = (
        match[1][:-1] if pattern[match.end() : match.end() + 1] in ("*", "?", "+", "{") and pattern[match.end() :] else match[1]
    )
    return literal.encode() if literal.strip("0123456789abcdefE+-") and literal not in _OF_OTHERS else b""


Needed = tuple[bytes | re.Pattern[bytes], ...]
"""Bytes that an item must have, all of them, or what is found in it."""
_NO_NUMBER = re.compile(rb"!.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)
"""A double (field 4 of AnyValue) that is no number or infinite: all bits of its exponent are set."""
_ODD_DOUBLE = re.compile(rb"\xa1[\x00\x80]")
"""How a double begins whose tag has more bytes than it needs."""


def has_one(payload: bytes, needed: Iterable[Needed]) -> bool:
    """Whether one of these is there, all of it."""
    # hot: otlp_transform_kof, 5 to 20 us a look through 30 KB that finds nothing: keys, which several have, come first
    lacking = set()
    for parts in needed:
        for part in reversed(parts):
            if part in lacking:
                break
            if not (part in payload if isinstance(part, bytes) else part.search(payload)):
                lacking.add(part)
                break
        else:
            return True
    return False


class Plain(Exception):
    """The evaluator has to do this."""


class CacheOfItem(Exception):
    """A statement that reads or writes the cache cannot be done ahead, so none can be that does."""


def targets(statement: Statement) -> Iterator[ast.Path]:
    """The paths that a statement writes."""
    call = statement.tree.editor
    function = EDITORS[call.name]
    for i, given in enumerate(call.arguments):
        name = given.name.replace("_", "").lower()
        parameter = (
            next((p for p in function.parameters if p.name.replace("_", "").lower() == name), None)
            if name
            else function.parameters[i]
            if i < len(function.parameters)
            else None
        )
        if parameter is not None and parameter.kind in ("P", "M!", "L!", "K!") and isinstance(given.value, ast.Path):
            yield given.value


def changes_around(context: str, statements: Sequence[Statement]) -> bool:
    """Whether one of the statements changes what surrounds the items, or what the evaluator alone knows to change."""
    for statement in statements:
        builder = Builder(context, qualified=statement.qualified, user="statements")
        function = EDITORS[statement.tree.editor.name]
        if function.env and function.name not in _ITEM_EDITORS and context in ("metric", "datapoint"):
            return True
        if any(builder.context_of(path)[0] != context for path in targets(statement)):
            return True
    return False


class Emitter:
    """Writes the source of one group. Its outer values, bound names and fields are those of all emitters made by `of`."""

    def __init__(self, context: str, cache: bool) -> None:
        self.context = context
        self.cache = cache
        """Whether the cache depends on nothing of the item."""
        self.steps: list[Any] = []
        self.outer: list[str] = []
        self.bound: dict[str, Any] = {}
        self.fields: set[str] = set()
        self.uses_metric = False
        self.builder = Builder(context)

    def of(self, qualified: bool, user: str) -> Emitter:
        """The same for paths of this kind and a user of these functions."""
        other = object.__new__(Emitter)
        other.__dict__.update(self.__dict__)
        other.builder = Builder(self.context, qualified=qualified, user=user)
        other._root = self
        return other

    _root: Emitter | None = None
    added: str | None = None
    """The source of the entries that the last statement adds, if that is all it does to items that lack their keys."""

    def mark(self) -> tuple[int, int]:
        """Where the outer values are now."""
        return len(self.steps), len(self.outer)

    def forget(self, mark: tuple[int, int]) -> None:
        """Forgets the outer values since."""
        del self.steps[mark[0] :]
        del self.outer[mark[1] :]

    def give_up_cache(self) -> None:
        """Says that the cache belongs to the items."""
        if self.cache:
            raise CacheOfItem

    def bind(self, value: Any) -> str:
        """A name for the value."""
        name = f"c{len(self.bound)}"
        self.bound[name] = value
        return name

    def _outer(self, read: Read) -> str:
        """A name for a value that is read once for all items."""
        if isinstance(read, Constant):
            return self.bind(read.value)
        self.steps.append(read)
        name = f"o{len(self.steps)}"
        self.outer.append(name)
        return name

    # How far an expression depends on the item

    def depends(self, node: Any) -> bool:
        """Whether the value is another one for each item. Plain where it depends on what is not known here."""
        found = False
        for each in nodes(node):
            if isinstance(each, ast.Path):
                found = self._path_depends(each) or found
            elif isinstance(each, ast.Call) and each.name in CONVERTERS and (CONVERTERS[each.name].env or each.name in VARYING):
                raise Plain
        return found

    def _path_depends(self, path: ast.Path) -> bool:
        if path.fields[0].name == "otelcol":
            return False
        if path.fields[0].name == "request":
            raise Plain
        context, rest = self.builder.context_of(path)
        if rest and rest[0].name == "cache":
            if not self.cache and context != self.context:
                raise Plain
            return not self.cache
        if context == self.context:
            return True
        if context in ("metric", "datapoint", "span"):
            if context != "metric" or not rest or rest[0].name == "data_points":
                raise Plain
            (self._root or self).uses_metric = True
        return False

    def uses_cache(self, statement: Statement) -> bool:
        """Whether the statement reads or writes the cache."""
        paths = [node for node in nodes(statement.tree) if isinstance(node, ast.Path) and node.fields[0].name != "otelcol"]
        return any((rest := self.builder.context_of(path)[1]) and rest[0].name == "cache" for path in paths)

    def is_outer(self, statement: Statement) -> bool:
        """Whether it changes nothing but the cache, and reads nothing of the item."""
        if not self.uses_cache(statement) or not self.cache:
            return False
        function = EDITORS[statement.tree.editor.name]
        if function.env and function.name not in _ITEM_EDITORS:
            return False
        into = [self.builder.context_of(path)[1] for path in targets(statement)]
        if not all(rest and rest[0].name == "cache" for rest in into):
            return False
        try:
            return not self.depends(statement.tree)
        except Plain:
            return False

    # Values

    def value(self, node: ast.Node) -> str:
        """The source of a value."""
        if not self.depends(node):
            return self._outer(self.builder.value(node))
        if isinstance(node, ast.Path):
            return self._path(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.ListNode):
            return f"[{', '.join(self.value(item) for item in node.items)}]"
        if isinstance(node, ast.Arithmetic):
            return f"arithmetic({self.value(node.left)}, {node.op!r}, {self.value(node.right)})"
        if isinstance(node, ast.Sign):
            return f"sign({node.op!r}, {self.value(node.operand)})"
        raise Plain

    def _key(self, node: ast.Node) -> tuple[str, str]:
        """The names of an attribute's key and of how its KeyValue begins."""
        if not isinstance(node, ast.Literal) or not isinstance(node.value, str):
            raise Plain
        raw = node.value.encode("utf-8", "replace")
        return self.bind(raw), self.bind(head(raw))

    def _attribute(self, path: ast.Node) -> ast.Node | None:
        """The key of `attributes["key"]` of the item itself; None for other nodes."""
        if not isinstance(path, ast.Path) or path.fields[0].name in ("otelcol", "request"):
            return None
        context, rest = self.builder.context_of(path)
        if context == self.context and len(rest) == 1 and rest[0].name == self._attributes and len(rest[0].keys) == 1:
            key = rest[0].keys[0]
            return key if isinstance(key, ast.Literal) and isinstance(key.value, str) else None
        return None

    @property
    def _attributes(self) -> str:
        return _ATTRIBUTES.get(self.context, "attributes")

    def _path(self, path: ast.Path) -> str:
        _, rest = self.builder.context_of(path)
        name = ".".join(field.name for field in rest)
        keys = rest[-1].keys if rest else ()
        if name == "cache":
            return f"index(it.cache, {self._keys(keys)})" if keys else "it.cache"
        if name == self._attributes:
            if not keys:
                return "it.attributes()"
            if len(keys) == 1:
                return f"it.value({', '.join(self._key(keys[0]))})"
            return f"it.deep({', '.join(self._key(keys[0]))}, {self._keys(keys[1:])})"
        field = self._field(name)
        if name == "body":
            return f"index(decoded({field}), {self._keys(keys)})" if keys else f"decoded({field})"
        if keys:
            raise Plain
        return field

    def _keys(self, keys: Iterable[ast.Node]) -> str:
        return f"[{', '.join(self.value(key) for key in keys)}]"

    def _field(self, name: str) -> str:
        """The source of a field that is no attribute. Plain for what is not known."""
        context = self.context
        view = "(it.v or it.view())"
        if name == "body" and context == "log":
            self.fields.add(name)
            return f"{view}.body"
        if name in item_access.TEXTS.get(context, ()):
            self.fields.add(name)
            return f"utf8({view}.{name})"
        if name in item_access.NUMBERS.get(context, ()):
            self.fields.add(name)
            return f"{view}.{name}"
        if name in item_access.TIMES.get(context, ()):
            self.fields.add(f"{name}_unix_nano")
            return f"Time({view}.{name}_unix_nano)"
        if name == "status.code" and context == "span":
            self.fields.add("status")
            return f"{view}.status.code"
        base = name.removesuffix(".string")
        size = item_access.IDS.get(context, {}).get(base)
        if size is not None and base != name:
            self.fields.add(base)
            return f"({view}.{base} or {self.bind(bytes(size))}).hex()"
        raise Plain

    def _call(self, node: ast.Call) -> str:
        function = CONVERTERS[node.name]
        source = f"{self.bind(function.call)}({', '.join(self._arguments(function, node, 0))})"
        return f"index({source}, {self._keys(node.keys)})" if node.keys else source

    def _arguments(self, function: Function, node: ast.Call, first: int) -> list[str]:
        out = []
        for parameter, given in self.builder.given(function, node)[first:]:
            out.append(self.bind(parameter.default) if given is None else self._argument(function, parameter, given))
        return out

    def _argument(self, function: Function, parameter: Parameter, node: ast.Node) -> str:
        wanted_kind, what = parameter.kind, f"{function.name}: {parameter.name}"
        if wanted_kind in ("P", "M!", "L!", "K!"):
            raise Plain
        if wanted_kind == "fn" and CONVERTERS[node.name].env:
            raise Plain
        if wanted_kind == "fn" or wanted_kind[0] in '"#' or wanted_kind in ('["s"]', "[#f]"):
            return self._outer(self.builder.argument(function, parameter, node)[0])
        if wanted_kind[0] == "[":
            if not isinstance(node, ast.ListNode):
                raise Plain
            return f"[{', '.join(self._one(wanted_kind[1:-1], item, what) for item in node.items)}]"
        return self._one(wanted_kind, node, what)

    def _one(self, wanted_kind: str, node: ast.Node, what: str) -> str:
        if not self.depends(node):
            return self._outer(self.builder.one(wanted_kind, node, what))
        if wanted_kind == "M#" or wanted_kind in PREPARED:
            raise Plain
        source = self.value(node)
        if wanted_kind == "A" or (wanted_kind == "E" and isinstance(node, ast.ListNode)):
            return source
        return f"argument({self.bind(COERCE[wanted_kind])}, {source}, {self.bind(what)})"

    # Conditions

    def condition(self, node: ast.Node) -> str:
        """The source of a condition. What is known now is left out, as by the evaluator: what it decides is not asked."""
        known = self._known(node)
        if known is not None:
            return repr(known)
        if isinstance(node, ast.And | ast.Or):
            word = " and " if isinstance(node, ast.And) else " or "
            return f"({word.join(self.condition(operand) for operand in node.operands if self._known(operand) is None)})"
        if isinstance(node, ast.Not):
            return f"(not {self.condition(node.operand)})"
        if not self.depends(node):
            return self._outer(self.builder.condition(node))
        if isinstance(node, ast.Comparison):
            return self._comparison(node)
        name = node.name if isinstance(node, ast.Call) else "the condition"
        return f"truth({self.value(node)}, {self.bind(name)})"

    def _known(self, node: ast.Node) -> bool | None:
        """What a condition is whatever it is asked of; None where that is not known."""
        if isinstance(node, ast.And | ast.Or):
            decides = isinstance(node, ast.Or)
            parts = [self._known(operand) for operand in node.operands]
            return decides if decides in parts else None if None in parts else not decides
        if isinstance(node, ast.Not):
            operand = self._known(node.operand)
            return None if operand is None else not operand
        return node.value if isinstance(node, ast.Literal) and isinstance(node.value, bool) else None

    def _comparison(self, node: ast.Comparison) -> str:
        key = self._attribute(node.left)
        constant = node.right.value if isinstance(node.right, ast.Literal) else None
        if key is not None and isinstance(constant, str) and node.op in ("==", "!="):
            value = encoded(constant)
            source = f"it.is_text({', '.join(self._key(key))}, {self.bind(constant)}, {self.bind(value)})"
            return source if node.op == "==" else f"(not {source})"
        left, right = self.value(node.left), self.value(node.right)
        numbers = item_access.NUMBERS.get(self.context, ())
        if type(self.bound.get(right)) is int and isinstance(node.left, ast.Path) and left.rpartition(".")[2] in numbers:
            return f"({left} {node.op} {right})"
        return f"compare({left}, {node.op!r}, {right})"

    def needs(self, node: ast.Node) -> list[Needed] | None:
        """Sets of bytes of which an item has one for the condition to be true or to fail; None where it may be without.

        What fewer items have comes first.
        """
        if isinstance(node, ast.Or):
            parts = [self.needs(operand) for operand in node.operands]
            return None if None in parts else [each for part in parts if part is not None for each in part]
        if isinstance(node, ast.And):
            # The first operand is always evaluated: with it not true and not failing, the rest is not.
            return self.needs(node.operands[0])
        if isinstance(node, ast.Comparison) and node.op == "==":
            key = self._attribute(node.left)
            value = node.right.value if isinstance(node.right, ast.Literal) else None
            if isinstance(key, ast.Literal) and isinstance(value, str) and "\ufffd" not in key.value + value:
                return [tuple(part.encode("utf-8", "replace") for part in (value, key.value) if part)]
        if isinstance(node, ast.Call) and node.name == "IsMatch" and len(node.arguments) == 2 and not node.keys:
            key = self._attribute(node.arguments[0].value)
            pattern = node.arguments[1].value
            if isinstance(key, ast.Literal) and key.value and "\ufffd" not in key.value and isinstance(pattern, ast.Literal):
                raw = key.value.encode("utf-8", "replace")
                literal = _literal_of(pattern.value)
                # NaN and infinities have no text and fail.
                return [(part, raw) for part in (literal, _NO_NUMBER, _ODD_DOUBLE)] if literal else [(raw,)]
        return None

    # Statements

    def statement(self, tree: ast.Statement) -> list[str]:
        """The lines of a statement."""
        lines = []
        indent = ""
        if tree.where is not None:
            lines.append(f"if {self.condition(tree.where)}:")
            indent = "    "
        return [*lines, *(f"{indent}{line}" for line in self._editor(tree.editor))]

    def _editor(self, call: ast.Call) -> list[str]:
        function = EDITORS[call.name]
        if function.env and function.name not in _ITEM_EDITORS:
            raise Plain
        given = self.builder.given(function, call)
        if not given or given[0][0].kind not in ("P", "M!", "L!", "K!") or given[0][1] is None:
            raise Plain
        target = given[0][1]
        context, rest = self.builder.context_of(target)
        if context != self.context or not rest or (rest[0].name == "cache" and self.cache):
            raise Plain
        whole_cache = len(rest) == 1 and rest[0].name == "cache" and not rest[0].keys
        if function.name == "merge_maps" and whole_cache:
            return self._merge_cache(given)
        key = self._attribute(target)
        whole = len(rest) == 1 and rest[0].name == self._attributes and not rest[0].keys
        if function.name == "set" and key is not None:
            return self._set(key, given[1][1])
        if function.name == "merge_maps" and whole:
            return self._merge(function, call, given)
        if function.name == "delete_key" and whole and isinstance(given[1][1], ast.Literal):
            return [f"it.delete({', '.join(self._key(given[1][1]))})"]
        if function.name == "keep_keys" and whole and isinstance(given[1][1], ast.ListNode):
            names = [item.value for item in given[1][1].items if isinstance(item, ast.Literal) and isinstance(item.value, str)]
            if len(names) == len(given[1][1].items):
                keys = frozenset(name.encode("utf-8", "replace") for name in names)
                return [f"it.keep({self.bind(keys)}, {self.bind(tuple(head(key) for key in keys))})"]
        arguments = self._arguments(function, call, 1)
        name = self.bind(function.call)
        if given[0][0].kind == "K!" and whole_cache:
            return [f"drop_cache(it, {', '.join([f'{name}(list(it.cache)', *arguments])}))"]
        if given[0][0].kind == "K!":
            if not whole:
                raise Plain
            return [f"it.drop({', '.join([f'{name}(it.keys()', *arguments])}))"]
        access = self._access(rest)
        before = ["it"] if function.env else []
        if given[0][0].kind == "P":
            return [f"{name}({', '.join([*before, self.bind(access), *arguments])})"]
        what = f"{function.name}: {given[0][0].name}"
        coerce = self.bind(COERCE[given[0][0].kind[0]])
        return [
            f"old = argument({coerce}, {self.bind(access.get)}(it), {self.bind(what)})",
            f"new = {name}({', '.join([*before, 'old', *arguments])})",
            f"{self.bind(access.put)}(it, old if new is None else new)",
        ]

    def _set(self, key: ast.Node, node: ast.Node) -> list[str]:
        names = ", ".join(self._key(key))
        if not self.depends(node):
            read = self.builder.value(node)

            def value(env: Env) -> bytes | None:
                found = read(env)
                return None if found is None else encoded(found)

            if isinstance(read, Constant):
                try:
                    new = self.bind(value(Env()))
                except EvaluationError:
                    raise Plain from None  # it fails for each item
            else:
                new = self._outer(value)
            self.added = f"(() if {new} is None else (({names}, {new}),))"
            return [f"if {new} is not None:", f"    it.set({names}, {new})"]
        return [f"new = {self.value(node)}", "if new is not None:", f"    it.set({names}, encoded(new))"]

    def _merge(self, function: Function, call: ast.Call, given: list[tuple[Parameter, ast.Node | None]]) -> list[str]:
        source, strategy = given[1][1], given[2][1]
        assert isinstance(strategy, ast.Literal)
        if not self.depends(source):
            read = self.builder.one("M", source, f"{function.name}: source")
            new = self._outer(lambda env: item_access.entries(read(env)))
            if strategy.value != "update":
                self.added = new
        else:
            new = f"entries({self._one('M', source, f'{function.name}: source')})"
        return [f"it.merge({new}, {self.bind(strategy.value)})"]

    def _merge_cache(self, given: list[tuple[Parameter, ast.Node | None]]) -> list[str]:
        source, strategy = given[1][1], given[2][1]
        assert isinstance(strategy, ast.Literal)
        return [f"merge_cache(it, {self._one('M', source, 'merge_maps: source')}, {self.bind(strategy.value)})"]

    def _access(self, rest: Sequence[ast.Field]) -> Access:
        """A path of the item as the editors take it, for an `Item` in the place of an `Env`."""
        name = ".".join(field.name for field in rest)
        keys = [self._constant(key) for key in rest[-1].keys]
        if name == "cache":
            return item_access.cache(keys)
        if name == self._attributes:
            if keys and not isinstance(keys[0], str):
                raise Plain
            return item_access.attribute(keys)
        if name == "body" and self.context == "log":
            self.fields.add("body")
            return item_access.body(keys)
        if not keys and name in item_access.TEXTS.get(self.context, ()):
            self.fields.add(name)
            return item_access.text(name)
        if not keys and name == "severity_number" and self.context == "log":
            self.fields.add(name)
            return item_access.integer(name)
        raise Plain

    def _constant(self, key: ast.Node) -> Any:
        read = None if self.depends(key) else self.builder.value(key)
        if not isinstance(read, Constant):
            raise Plain
        return read.value
