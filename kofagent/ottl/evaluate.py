"""From syntax tree to closures over an `Env`: names are resolved once, types are checked at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kofagent.ottl import ast, paths
from kofagent.ottl.errors import EvaluationError, OttlError, did_you_mean
from kofagent.ottl.functions import CONVERTERS, Constant
from kofagent.ottl.paths import Env, Read
from kofagent.ottl.types import arithmetic, compare, index, kind


class Builder:
    """Builds the closures of one context; OttlError for names the context does not know."""

    def __init__(self, context: str) -> None:
        if context not in paths.CONTEXTS:
            raise ValueError(f"unknown context {context!r}{did_you_mean(context, paths.CONTEXTS)}")
        self.context = context
        self._enums = paths.enums(context)

    def value(self, node: ast.Node) -> Read:
        """The closure that gives the node's value."""
        build = _BUILDERS.get(type(node))
        if build is None:
            raise OttlError("not a value", node.column)
        return build(self, node)

    def condition(self, node: ast.Node) -> Callable[[Env], bool]:
        """The closure that gives the node's truth; EvaluationError at run time if a converter does not return a boolean."""
        if isinstance(node, ast.And):
            parts = [self.condition(n) for n in node.operands]

            def all_of(env: Env) -> bool:
                for part in parts:  # noqa: SIM110 - a generator costs twice as much
                    if not part(env):
                        return False
                return True

            return all_of
        if isinstance(node, ast.Or):
            options = [self.condition(n) for n in node.operands]

            def any_of(env: Env) -> bool:
                for option in options:  # noqa: SIM110
                    if option(env):
                        return True
                return False

            return any_of
        if isinstance(node, ast.Not):
            operand = self.condition(node.operand)
            return lambda env: not operand(env)
        if isinstance(node, ast.Comparison):
            return self._comparison(node)
        read = self.value(node)
        name = node.name if isinstance(node, ast.Call) else "the condition"

        def truth(env: Env) -> bool:
            value = read(env)
            if value is True or value is False:
                return value
            raise EvaluationError(f"{name} gave {kind(value)} where a bool is needed")

        return truth

    def _comparison(self, node: ast.Comparison) -> Callable[[Env], bool]:
        left, right, op = self.value(node.left), self.value(node.right), node.op
        if isinstance(right, Constant):
            constant = right.value
            # Most conditions compare something with a string; equal types need no rules.
            if isinstance(constant, str) and op in ("==", "!="):
                if isinstance(left, paths.Attribute):
                    same = left.equals(constant)
                    return same if op == "==" else lambda env: not same(env)
                if op == "==":
                    return lambda env: bool(left(env) == constant)
                return lambda env: bool(left(env) != constant)
            return lambda env: compare(left(env), op, constant)
        return lambda env: compare(left(env), op, right(env))

    # -- kinds of values

    def _literal(self, node: ast.Literal) -> Read:
        return Constant(node.value)

    def _enum(self, node: ast.Enum) -> Read:
        if node.name not in self._enums:
            known = "" if self._enums else f"; the {self.context} context has none"
            raise OttlError(f"unknown name {node.name}{did_you_mean(node.name, self._enums) or known}", node.column)
        return Constant(self._enums[node.name])

    def _list(self, node: ast.ListNode) -> Read:
        items = [self.value(n) for n in node.items]
        if all(isinstance(i, Constant) for i in items):
            return Constant([i.value for i in items if isinstance(i, Constant)])
        return lambda env: [item(env) for item in items]

    def _map(self, node: ast.MapNode) -> Read:
        items = [(k, self.value(n)) for k, n in node.items]
        return lambda env: {k: item(env) for k, item in items}

    def _arithmetic(self, node: ast.Arithmetic) -> Read:
        left, right, op = self.value(node.left), self.value(node.right), node.op
        if isinstance(left, Constant) and isinstance(right, Constant):
            try:
                return Constant(arithmetic(left.value, op, right.value))
            except EvaluationError as error:
                raise OttlError(str(error), node.column) from None
        return lambda env: arithmetic(left(env), op, right(env))

    def _indexed(self, read: Read, keys: tuple[ast.Node, ...]) -> Read:
        for node in keys:
            key = self.value(node)
            read = self._one_index(read, key)
        return read

    @staticmethod
    def _one_index(read: Read, key: Read) -> Read:
        if isinstance(key, Constant):
            constant = key.value
            return lambda env: index(read(env), constant)
        return lambda env: index(read(env), key(env))

    def _call(self, node: ast.Call) -> Read:
        converter = CONVERTERS.get(node.name)
        if converter is None or (converter.contexts and self.context not in converter.contexts):
            where = f" in the {self.context} context" if converter else ""
            raise OttlError(
                f"unknown converter {node.name}{where}{did_you_mean(node.name, CONVERTERS) if not converter else ''}", node.column
            )
        names = [p.removesuffix("?") for p in converter.parameters]
        required = [p for p in converter.parameters if not p.endswith("?")]
        given: dict[str, Read] = {}
        for position, argument in enumerate(node.arguments):
            if argument.name and argument.name not in names:
                raise OttlError(f"{node.name} has no argument {argument.name}{did_you_mean(argument.name, names)}", node.column)
            if not argument.name and position >= len(names):
                raise OttlError(f"{node.name} takes {len(names)} arguments, {len(node.arguments)} given", node.column)
            given[argument.name or names[position]] = self.value(argument.value)
        lacking = [p for p in required if p not in given]
        if lacking:
            raise OttlError(f"{node.name} needs {', '.join(lacking)}", node.column)
        try:
            read = converter.build(*[given.get(n) for n in names])
        except (ValueError, EvaluationError) as error:
            raise OttlError(f"{node.name}: {error}", node.column) from None
        return self._indexed(read, node.keys)

    def _path(self, node: ast.Path) -> Read:
        fields = node.fields
        prefixes = paths.CONTEXTS[self.context]
        first = fields[0]
        if first.name == "request" or (self.context == "request" and first.name != "otelcol"):
            return self._request(node)
        if first.name == "otelcol":
            return self._client(node)
        if first.name in prefixes and not first.keys and len(fields) > 1:
            prefix, rest = first.name, fields[1:]
        elif first.name in ("cache",):
            return self._indexed(lambda env: env.cache, first.keys)
        else:
            prefix, rest = self.context, fields
        if self.context == "otelcol":
            raise OttlError("the otelcol context has otelcol.client paths only", node.column)
        table, pick = paths.table(self.context, prefix)
        if rest[0].name == "cache" and len(rest) == 1:
            return self._indexed(lambda env: env.cache, rest[0].keys)
        name = ".".join(f.name for f in rest)
        read_message = table.get(name)
        early = next((f for f in rest[:-1] if f.keys), None)
        if read_message is None or early is not None:
            raise self._unknown(node, prefix, name, table)
        keys = rest[-1].keys
        if rest[-1].name == "attributes" and keys:
            key = self.value(keys[0])
            if isinstance(key, Constant) and isinstance(key.value, str):
                return self._indexed(paths.Attribute(pick, key.value), keys[1:])

        def read(env: Env) -> Any:
            message = pick(env)
            return paths.missing(env) if message is None else read_message(message)

        return self._indexed(read, keys)

    def _request(self, node: ast.Path) -> Read:
        field = node.fields[0]
        if self.context != "request":
            raise OttlError(f"request[...] needs context: request, not {self.context}", node.column)
        if field.name != "request" or len(node.fields) != 1 or len(field.keys) != 1:
            raise OttlError('the request context has request["header"] only', node.column)
        key = self.value(field.keys[0])
        if not isinstance(key, Constant) or not isinstance(key.value, str):
            raise OttlError("the name of a header is a string", node.column)
        return paths.header(key.value)

    def _client(self, node: ast.Path) -> Read:
        part = ".".join(f.name for f in node.fields[1:])
        keys = node.fields[-1].keys
        if part not in ("client.metadata", "client.auth.attributes") or not keys:
            raise OttlError('write otelcol.client.metadata["header"][0] or otelcol.client.auth.attributes["name"]', node.column)
        key = self.value(keys[0])
        if not isinstance(key, Constant) or not isinstance(key.value, str):
            raise OttlError("the name of a header is a string", node.column)
        return self._indexed(paths.client("metadata" if part == "client.metadata" else "auth", key.value), keys[1:])

    def _unknown(self, node: ast.Path, prefix: str, name: str, table: paths.Table) -> OttlError:
        text = ".".join(f.name for f in node.fields)
        first = node.fields[0].name
        if first in paths.CONTEXTS and first not in paths.CONTEXTS[self.context]:
            return OttlError(f"{text}: the {self.context} context cannot see the {first}", node.column)
        known = [*table, *(f"{p}.{n}" for p in paths.CONTEXTS[self.context] for n in paths.table(self.context, p)[0])]
        hint = did_you_mean(text, known) or did_you_mean(name, table)
        return OttlError(f"unknown path {text} in the {self.context} context{hint}", node.column)


_BUILDERS: dict[type, Callable[[Builder, Any], Read]] = {
    ast.Literal: Builder._literal,
    ast.Enum: Builder._enum,
    ast.ListNode: Builder._list,
    ast.MapNode: Builder._map,
    ast.Arithmetic: Builder._arithmetic,
    ast.Call: Builder._call,
    ast.Path: Builder._path,
}
