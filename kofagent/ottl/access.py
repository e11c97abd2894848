"""How a path reads and writes: `Access`, and the ones that are made of maps with keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kofagent.ottl.env import Constant, Env, Pick, Read, Write
from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.types import Own, index, kind, put, stored
from kofagent.transform.anyvalue import attributes as to_dict
from kofagent.transform.anyvalue import to_python, write, write_map


class Access(NamedTuple):
    """Reads and writes one path. `put` raises EvaluationError for a value of a wrong kind; it is None where nothing is ever set."""

    get: Read
    put: Write | None
    keyed: Callable[[list[Read]], Access] | None = None
    """The same with keys behind it; None where the path cannot be indexed."""
    items: Pick | None = None
    """The repeated KeyValue that a map of attributes is, whose entries can be taken out one by one."""


def wanted(value: Any, types: type | tuple[type, ...], word: str) -> Any:
    """The value if it has one of the types. EvaluationError otherwise; a boolean is no integer."""
    if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
        raise EvaluationError(f"it takes a {word}, not {kind(value)}")
    return value


def attributes(pick: Pick, field: str = "attributes") -> Access:
    """A map of attributes: `pick(env).attributes`, a repeated KeyValue."""

    def items(env: Env) -> Any:
        return getattr(pick(env), field)

    def get(env: Env) -> Any:
        return to_dict(items(env))

    def put_map(env: Env, value: Any) -> None:
        write_map(items(env), stored(wanted(value, dict, "map")))

    return Access(get, put_map, lambda keys: _attribute(items, keys), items)


class AttributeRead:
    """Reads one attribute: looked for without decoding the others; of equal keys the first, as upstream."""

    __slots__ = ("_items", "_key")

    def __init__(self, items: Pick, key: str) -> None:
        self._items = items
        self._key = key

    def __call__(self, env: Env) -> Any:
        key = self._key
        for item in self._items(env):
            if item.key == key:
                return to_python(item.value)
        return None

    def equals(self, text: str) -> Callable[[Env], bool]:
        """Whether it is the string `text`, without making a Python value of any other type."""
        key, items = self._key, self._items

        def read(env: Env) -> bool:
            for item in items(env):
                if item.key == key:
                    value = item.value
                    return bool(value.string_value == text) and (text != "" or value.WhichOneof("value") == "string_value")
            return False

        return read


def _attribute(items: Pick, keys: list[Read]) -> Access:
    first, rest = keys[0], keys[1:]
    if isinstance(first, Constant) and isinstance(first.value, str):
        read: Read = AttributeRead(items, first.value)
    else:

        def read(env: Env) -> Any:
            key = first(env)
            if not isinstance(key, str):
                raise EvaluationError(f"a map is indexed by strings, not by {kind(key)}")
            return next((to_python(i.value) for i in items(env) if i.key == key), None)

    def deeper(env: Env) -> Any:
        key = first(env)
        # A key that is there with an empty value cannot be indexed; one that is not there is nil all the way down.
        return index({i.key: to_python(i.value) for i in items(env) if i.key == key}, [key, *(k(env) for k in rest)])

    def put_one(env: Env, value: Any) -> None:
        key = first(env)
        if not isinstance(key, str):
            raise EvaluationError(f"a map is indexed by strings, not by {kind(key)}")
        found = items(env)
        for entry in found:
            if entry.key == key:
                break
        else:
            entry = found.add(key=key)
        if rest:
            value = put(to_python(entry.value), [k(env) for k in rest], stored(value))
            write(entry.value, value)
        else:
            write(entry.value, value if isinstance(value, str) else stored(value))

    return Access(deeper if rest else read, put_one)


def cache() -> Access:
    """The context's cache."""

    def get(env: Env) -> Any:
        return env.cache

    def put_map(env: Env, value: Any) -> None:
        new = stored(wanted(value, dict, "map"))
        env.cache.clear()
        env.cache.update(new)

    def keyed(keys: list[Read]) -> Access:
        def read(env: Env) -> Any:
            return index(env.cache, [k(env) for k in keys])

        def put_one(env: Env, value: Any) -> None:
            put(env.cache, [k(env) for k in keys], stored(value))

        return Access(read, put_one)

    return Access(get, put_map, keyed)


def body(pick: Pick) -> Access:
    """The body of a log record; keys are good only where it is a map or a list."""

    def get(env: Env) -> Any:
        return to_python(pick(env).body)

    def put_body(env: Env, value: Any) -> None:
        write(pick(env).body, stored(value))

    def keyed(keys: list[Read]) -> Access:
        def read(env: Env) -> Any:
            return index(get(env), [k(env) for k in keys])

        def put_one(env: Env, value: Any) -> None:
            whole = get(env)
            if not isinstance(whole, dict | list):
                raise EvaluationError(f"a body that is {kind(whole)} cannot be indexed")
            write(pick(env).body, put(whole, [k(env) for k in keys], stored(value)))

        return Access(read, put_one)

    return Access(get, put_body, keyed)


def text(pick: Pick, name: str) -> Access:
    """A string field."""

    def put_text(env: Env, value: Any) -> None:
        setattr(pick(env), name, wanted(value, str, "string").encode("utf-8", "replace").decode())

    return Access(lambda env: getattr(pick(env), name), put_text)


def integer(pick: Pick, name: str, mask: int = 0xFFFFFFFF, *, signed: bool = False) -> Access:
    """An integer field; what is set is kept modulo the mask."""

    def put_int(env: Env, value: Any) -> None:
        number = wanted(value, int, "int") & mask
        setattr(pick(env), name, number - mask - 1 if signed and number > mask >> 1 else number)

    return Access(lambda env: getattr(pick(env), name), put_int)


def own(kind_of: str, pick: Pick, name: str) -> Access:
    """A repeated field as a list of its own kind."""

    def put_list(env: Env, value: Any) -> None:
        if not isinstance(value, Own) or value.kind != kind_of:
            raise EvaluationError(f"it takes {kind_of}, not {kind(value)}")
        target = getattr(pick(env), name)
        new = list(value)
        del target[:]
        target.extend(new)

    return Access(lambda env: Own(kind_of, getattr(pick(env), name)), put_list)
