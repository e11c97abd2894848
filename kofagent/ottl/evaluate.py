"""From syntax tree to closures over an `Env`: names are resolved once, types are checked at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kofagent.memory.memo import Memo
from kofagent.ottl import access, ast, paths
from kofagent.ottl.access import Access, AttributeRead
from kofagent.ottl.env import VISIBLE, Constant, Env, Read, enums, visible
from kofagent.ottl.errors import EvaluationError, OttlError, did_you_mean
from kofagent.ottl.functions import CONVERTERS, EDITORS
from kofagent.ottl.functions.core import COERCE, PREPARED, Function, Parameter
from kofagent.ottl.types import arithmetic, compare, index, kind, sign

_INDEXED = ("attributes", "cache", "metadata", "body", "trace_state", "filtered_attributes")


class Builder:
    """Builds the closures of one context; OttlError for names the context does not know.

    `qualified`: every path begins with the name of a context, as upstream asks for where the context was inferred.
    `user` is the component: "statements", "conditions" or "routing", which know different functions.
    """

    def __init__(self, context: str, *, qualified: bool = False, user: str = "conditions") -> None:
        if context not in VISIBLE:
            raise ValueError(f"unknown context {context!r}{did_you_mean(context, VISIBLE)}")
        self.context = context
        self._qualified = qualified
        self._user = user
        self._enums = enums(context)

    # -- conditions

    def condition(self, node: ast.Node) -> Callable[[Env], bool]:
        """The closure that gives the node's truth; EvaluationError at run time if a converter does not return a boolean."""
        test = self._condition(node)
        return (lambda env: test) if isinstance(test, bool) else test

    def _condition(self, node: ast.Node) -> Callable[[Env], bool] | bool:
        """A boolean where it is known now."""
        if isinstance(node, ast.And):
            return self._all([self._condition(n) for n in node.operands])
        if isinstance(node, ast.Or):
            return self._any([self._condition(n) for n in node.operands])
        if isinstance(node, ast.Not):
            operand = self._condition(node.operand)
            return not operand if isinstance(operand, bool) else lambda env: not operand(env)
        if isinstance(node, ast.Comparison):
            return self._comparison(node)
        read = self.value(node)
        if isinstance(read, Constant) and isinstance(read.value, bool):
            return read.value
        name = node.name if isinstance(node, ast.Call) else "the condition"

        def truth(env: Env) -> bool:
            value = read(env)
            if value is True or value is False:
                return value
            raise EvaluationError(f"{name} gave {kind(value)} where a bool is needed")

        return truth

    @staticmethod
    def _all(tests: list[Callable[[Env], bool] | bool]) -> Callable[[Env], bool] | bool:
        if any(test is False for test in tests):
            return False
        parts = [test for test in tests if not isinstance(test, bool)]
        if len(parts) < 2:
            return parts[0] if parts else True

        def all_of(env: Env) -> bool:
            for part in parts:  # noqa: SIM110 - a generator costs twice as much
                if not part(env):
                    return False
            return True

        return all_of

    @staticmethod
    def _any(tests: list[Callable[[Env], bool] | bool]) -> Callable[[Env], bool] | bool:
        if any(test is True for test in tests):
            return True
        options = [test for test in tests if not isinstance(test, bool)]
        if len(options) < 2:
            return options[0] if options else False

        def any_of(env: Env) -> bool:
            for option in options:  # noqa: SIM110
                if option(env):
                    return True
            return False

        return any_of

    def _comparison(self, node: ast.Comparison) -> Callable[[Env], bool] | bool:
        left, right, op = self.value(node.left), self.value(node.right), node.op
        if isinstance(right, Constant):
            constant = right.value
            if isinstance(left, Constant):
                return compare(left.value, op, constant)
            # Most conditions compare something with a string; equal types need no rules.
            if isinstance(constant, str) and op in ("==", "!="):
                if isinstance(left, AttributeRead):
                    same = left.equals(constant)
                    return same if op == "==" else lambda env: not same(env)
                if op == "==":
                    return lambda env: bool(left(env) == constant)
                return lambda env: bool(left(env) != constant)
            return lambda env: compare(left(env), op, constant)
        return lambda env: compare(left(env), op, right(env))

    # -- values

    def value(self, node: ast.Node) -> Read:
        """The closure that gives the node's value."""
        build = _BUILDERS.get(type(node))
        if build is None:
            raise OttlError("not a value", node.column)
        return build(self, node)

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
            except EvaluationError:
                pass  # upstream tells it when it is run
        return lambda env: arithmetic(left(env), op, right(env))

    def _sign(self, node: ast.Sign) -> Read:
        operand, op = self.value(node.operand), node.op
        if isinstance(operand, Constant):
            return Constant(sign(op, operand.value))
        return lambda env: sign(op, operand(env))

    def _function_name(self, node: ast.FunctionName) -> Read:
        raise OttlError(f"{node.name} is the name of a converter; call it: {node.name}(...)", node.column)

    # -- calls

    def _call(self, node: ast.Call) -> Read:
        read = self._applied(self._converter(node.name, node.column), node)
        if not node.keys:
            return read
        keys = [self.value(key) for key in node.keys]
        return lambda env: index(read(env), [key(env) for key in keys])

    def _converter(self, name: str, column: int) -> Function:
        found = CONVERTERS.get(name)
        if found is None:
            raise OttlError(f"unknown converter {name}{did_you_mean(name, CONVERTERS)}", column)
        self._known_here(found, "converter", column)
        return found

    def _known_here(self, function: Function, word: str, column: int) -> None:
        if function.contexts and self.context not in function.contexts:
            raise OttlError(f"the {word} {function.name} is not known in the {self.context} context", column)
        if function.where and self._user not in function.where:
            raise OttlError(f"the {word} {function.name} is not known here ({self._user})", column)

    def editor(self, node: ast.Call) -> Callable[[Env], None]:
        """The closure that does what the editor says."""
        found = EDITORS.get(node.name)
        if found is None:
            raise OttlError(f"unknown editor {node.name}{did_you_mean(node.name, EDITORS)}", node.column)
        self._known_here(found, "editor", node.column)
        return self._applied(found, node)

    def _applied(self, function: Function, node: ast.Call) -> Callable[[Env], Any]:
        given = self.given(function, node)
        reads: list[Read] = []
        literals: list[tuple[str, Any]] = []
        target: Access | None = None
        for parameter, value in given:
            if value is None:
                reads.append(Constant(parameter.default))
                continue
            read, back = self.argument(function, parameter, value)
            reads.append(read)
            target = target or back
            if isinstance(read, Constant):
                literals.append((parameter.name, read.value))
        if function.check is not None:
            try:
                function.check(**dict(literals))
            except (ValueError, EvaluationError) as error:
                raise OttlError(f"{function.name}: {error}", node.column) from None
        return _closure(function, reads, target)

    def given(self, function: Function, node: ast.Call) -> list[tuple[Parameter, ast.Node | None]]:
        """Each parameter with its argument, None where it is left out. OttlError for a wrong number or name."""
        parameters = function.parameters
        if not parameters:
            return []  # upstream ignores what such a function is given
        names = {_plain(p.name): p.name for p in parameters}
        given: dict[str, ast.Node] = {}
        for position, argument in enumerate(node.arguments):
            if argument.name:
                name = names.get(_plain(argument.name))
                if name is None:
                    hint = did_you_mean(argument.name, names.values())
                    raise OttlError(f"{function.name} has no argument {argument.name}{hint}", argument.column)
            elif position >= len(parameters):
                takes = f"{len(parameters)} argument{'s' if len(parameters) > 1 else ''}"
                raise OttlError(f"{function.name} takes {takes}, {len(node.arguments)} given", argument.column)
            else:
                name = parameters[position].name
            if name in given:
                raise OttlError(f"{function.name}: the argument {name} is given twice", argument.column)
            given[name] = argument.value
        lacking = [p.name for p in parameters if not p.optional and p.name not in given]
        if lacking:
            raise OttlError(f"{function.name} needs {', '.join(lacking)}", node.column)
        if function.one_of and not function.one_of & given.keys():
            raise OttlError(f"{function.name} needs one of {', '.join(sorted(function.one_of))}", node.column)
        return [(p, given.get(p.name)) for p in parameters]

    def argument(self, function: Function, parameter: Parameter, node: ast.Node) -> tuple[Read, Access | None]:
        """How the argument is read, and where a map or list that is changed in place goes back to."""
        kind_of = parameter.kind
        what = f"{function.name}: {parameter.name}"
        if kind_of == "fn":
            return self._function_argument(what, node), None
        if kind_of in ("P", "M!", "L!", "K!"):
            place = self.path(node, what)
            if kind_of in ("P", "K!"):
                return Constant(place), place if kind_of == "K!" else None
            return _coerced(place.get, COERCE[kind_of[0]], what), place
        if kind_of[0] in '"#' or kind_of in ('["s"]', "[#f]"):
            return Constant(_literal(kind_of, node, what)), None
        if kind_of[0] == "[":
            if not isinstance(node, ast.ListNode):
                raise OttlError(f"{what} is a list: [...]", node.column)
            items = [self.one(kind_of[1:-1], item, what) for item in node.items]
            if all(isinstance(item, Constant) for item in items):
                return Constant([item.value for item in items if isinstance(item, Constant)]), None
            return (lambda env: [item(env) for item in items]), None
        return self.one(kind_of, node, what), None

    def one(self, kind_of: str, node: ast.Node, what: str) -> Read:
        if isinstance(node, ast.FunctionName):
            raise OttlError(f"{what}: {node.name} is the name of a converter; call it: {node.name}(...)", node.column)
        read = self.value(node)
        if kind_of == "M#":
            return read if isinstance(node, ast.MapNode) else _no_literal_map(what)
        if kind_of == "A" or (kind_of == "E" and isinstance(node, ast.ListNode)):
            return read
        if kind_of in PREPARED:
            prepare = PREPARED[kind_of]
            if not isinstance(read, Constant):
                known: Memo[Any, Any] = Memo("ottl.patterns", prepare, entries=64, size=1 << 20)
                return _remembered(read, known, what)
        else:
            prepare = COERCE[kind_of]
            if not isinstance(read, Constant):
                return _coerced(read, prepare, what)
        try:
            return Constant(prepare(read.value))
        except EvaluationError as error:
            raise OttlError(f"{what}: {error}", node.column) from None

    def _function_argument(self, what: str, node: ast.Node) -> Read:
        """A converter of one argument that is handed over by its name."""
        if not isinstance(node, ast.FunctionName | ast.Enum):
            raise OttlError(f"{what} is the name of a converter, such as SHA256", node.column)
        function = self._converter(node.name, node.column)
        needed = [p for p in function.parameters if not p.optional]
        if len(needed) != 1:
            return Constant(_not_of_one(node.name, len(needed)))  # upstream tells it when it is run
        coerce = COERCE.get(needed[0].kind, lambda value: value)
        rest = [p.default for p in function.parameters if p.optional]

        def call(env: Env, value: Any) -> Any:
            return function.call(*([env] if function.env else []), coerce(value), *rest)

        return Constant(call)

    # -- paths

    def _path(self, node: ast.Path) -> Read:
        first = node.fields[0]
        if first.name == "request" or (self.context == "request" and first.name != "otelcol"):
            return self._request(node)
        return self.path(node, "").get

    def path(self, node: ast.Node, what: str) -> Access:
        """How a path is read and written. OttlError where there is none."""
        if not isinstance(node, ast.Path):
            raise OttlError(f"{what} is a path, such as {self._example()}", node.column)
        fields = node.fields
        if fields[0].name == "otelcol":
            return self._client(node)
        context, rest = self.context_of(node)
        if not rest:
            return self._whole(node, context)
        if rest[0].name == "cache" and len(rest) == 1:
            if context != self.context:
                raise OttlError(f"the cache of the {context} cannot be used in the {self.context} context", node.column)
            return self._keyed(access.cache(), rest[0])
        table = paths.TABLES[context]
        name = ".".join(field.name for field in rest)
        found = table.get(name)
        if found is None or any(field.keys for field in rest[:-1]):
            raise self._unknown(node, name, table)
        return self._keyed(found, rest[-1])

    def context_of(self, node: ast.Path) -> tuple[str, tuple[ast.Field, ...]]:
        fields = node.fields
        first = fields[0]
        context = visible(self.context, first.name) if not first.keys else None
        if context is not None and (len(fields) > 1 or first.name not in paths.TABLES.get(self.context, {})):
            return context, fields[1:]
        if self._qualified:
            written = ".".join(field.name for field in fields)
            known = ", ".join(VISIBLE[self.context])
            raise OttlError(f"the path {written} must begin with its context ({known}), as {self.context}.{written}", node.column)
        if self.context not in paths.TABLES:
            raise OttlError(f"the {self.context} context has no such path", node.column)
        return self.context, fields

    def _whole(self, node: ast.Path, context: str) -> Access:
        if context not in paths.WHOLE or node.fields[-1].keys:
            raise OttlError(f"{context} needs a name behind it, as {context}.attributes", node.column)
        return paths.WHOLE[context]

    def _keyed(self, found: Access, field: ast.Field) -> Access:
        if not field.keys:
            return found
        if found.keyed is None:
            raise OttlError(f"{field.name} cannot be indexed", field.column)
        try:
            return found.keyed([self.value(key) for key in field.keys])
        except OttlError:
            raise
        except ValueError as error:
            raise OttlError(str(error), field.column) from None

    def _request(self, node: ast.Path) -> Read:
        field = node.fields[0]
        if self.context != "request":
            raise OttlError(f"request[...] needs context: request, not {self.context}", node.column)
        if field.name != "request" or len(node.fields) != 1 or len(field.keys) != 1:
            raise OttlError('the request context has request["header"] only', node.column)
        return paths.header(self._header(field.keys[0], node))

    def _header(self, key: ast.Node, node: ast.Path) -> str:
        read = self.value(key)
        if not isinstance(read, Constant) or not isinstance(read.value, str):
            raise OttlError("the name of a header is a string", node.column)
        return read.value

    def _client(self, node: ast.Path) -> Access:
        part = ".".join(field.name for field in node.fields[1:])
        if part not in paths.CLIENT_PATHS or any(field.keys for field in node.fields[:-1]):
            raise OttlError(
                f"unknown path otelcol.{part}; known: {', '.join(f'otelcol.{p}' for p in paths.CLIENT_PATHS)}", node.column
            )
        return paths.client(part, [self.value(key) for key in node.fields[-1].keys])

    def _example(self) -> str:
        return f'{self.context}.attributes["name"]'

    def _unknown(self, node: ast.Path, name: str, table: paths.Table) -> OttlError:
        written = ".".join(field.name for field in node.fields)
        first = node.fields[0].name
        if first in VISIBLE and visible(self.context, first) is None:
            return OttlError(f"{written}: the {self.context} context cannot see the {first}", node.column)
        known = [*table, *(f"{c}.{n}" for c in VISIBLE[self.context] for n in paths.TABLES[c])]
        hint = did_you_mean(written, known) or did_you_mean(name, table)
        return OttlError(f"unknown path {written} in the {self.context} context{hint}", self._wrong_part(node).column)

    def _wrong_part(self, node: ast.Path) -> ast.Field:
        """The first part of the path that no path goes on with."""
        context, rest = self.context_of(node)
        for end in range(1, len(rest) + 1):
            name = ".".join(field.name for field in rest[:end])
            if not any(known == name or known.startswith(f"{name}.") for known in paths.TABLES[context]):
                return rest[end - 1]
        return node.fields[0]


def _plain(name: str) -> str:
    """The name of an argument however it is written: resolve_conflicts, resolveConflicts."""
    return name.replace("_", "").lower()


def _coerced(read: Read, coerce: Callable[[Any], Any], what: str) -> Read:
    def argument(env: Env) -> Any:
        try:
            return coerce(read(env))
        except EvaluationError as error:
            raise EvaluationError(f"{what}: {error}") from None

    return argument


def _remembered(read: Read, known: Memo[Any, Any], what: str) -> Read:
    def argument(env: Env) -> Any:
        try:
            return known[read(env)]
        except (EvaluationError, TypeError):
            raise EvaluationError(f"{what}: no valid pattern") from None

    return argument


def _not_of_one(name: str, count: int) -> Callable[[Env, Any], Any]:
    def call(env: Env, value: Any) -> Any:
        raise EvaluationError(f"{name} takes {count} arguments, not one")

    return call


def _no_literal_map(what: str) -> Read:
    def read(env: Env) -> Any:
        raise EvaluationError(f"{what} is a map that is written out: {{...}}")

    return read


_LITERALS: dict[str, tuple[type, str]] = {'"s"': (str, "string"), "#i": (int, "int"), "#f": (float, "double"), "#b": (bool, "bool")}


def _literal(kind_of: str, node: ast.Node, what: str) -> Any:
    """The value of an argument that must be a literal."""
    if kind_of[0] == "[":
        if not isinstance(node, ast.ListNode):
            raise OttlError(f"{what} is a list of literals: [...]", node.column)
        return [_literal(kind_of[1:-1], item, what) for item in node.items]
    types, word = _LITERALS[kind_of]
    if not isinstance(node, ast.Literal) or type(node.value) is not types:
        raise OttlError(f"{what} is a literal {word}", node.column)
    return node.value


def _without_keys(call: Callable[..., Any], place: Access, reads: list[Read], name: str) -> Callable[[Env], None]:
    """Takes out of the map at `place` the keys that the function names; the other entries are not touched."""
    put = place.put
    assert put is not None
    if place.items is not None:
        items = place.items

        def delete(env: Env) -> None:
            entries = items(env)
            keys = [entry.key for entry in entries]
            gone = call(keys, *[read(env) for read in reads])
            if gone:
                for at in range(len(keys) - 1, -1, -1):
                    if keys[at] in gone:
                        del entries[at]

        return delete

    def replace(env: Env) -> None:
        value = place.get(env)
        if not isinstance(value, dict):
            raise EvaluationError(f"{name}: target: needs a map, not {kind(value)}")
        gone = call(list(value), *[read(env) for read in reads])
        put(env, {key: element for key, element in value.items() if key not in gone})

    return replace


def _closure(function: Function, reads: list[Read], target: Access | None) -> Callable[[Env], Any]:
    """Calls the function with its arguments; what was changed in place goes back to `target`."""
    call = function.call
    if target is not None and function.parameters[0].kind == "K!":
        return _without_keys(call, target, reads[1:], function.name)
    if target is not None:
        put = target.put
        assert put is not None

        def change(env: Env) -> None:
            values = [read(env) for read in reads]
            new = call(env, *values) if function.env else call(*values)
            put(env, values[0] if new is None else new)

        return change
    if function.env:
        return lambda env: call(env, *[read(env) for read in reads])
    if len(reads) == 1:
        only = reads[0]
        return lambda env: call(only(env))
    if len(reads) == 2:
        one, two = reads
        if isinstance(two, Constant):
            fixed = two.value
            return lambda env: call(one(env), fixed)
        return lambda env: call(one(env), two(env))
    return lambda env: call(*[read(env) for read in reads])


_BUILDERS: dict[type, Callable[[Builder, Any], Read]] = {
    ast.Literal: Builder._literal,
    ast.Enum: Builder._enum,
    ast.ListNode: Builder._list,
    ast.MapNode: Builder._map,
    ast.Arithmetic: Builder._arithmetic,
    ast.Sign: Builder._sign,
    ast.Call: Builder._call,
    ast.Path: Builder._path,
    ast.FunctionName: Builder._function_name,
}
