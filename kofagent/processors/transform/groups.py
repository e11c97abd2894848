"""How groups of statements are run on a payload: compiled for records and data points, once per distinct resource and scope, or by
the evaluator on the decoded request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from google.protobuf.message import Message

from kofagent.memory.memo import Memo
from kofagent.ottl import Env, EvaluationError
from kofagent.ottl.compile import Compiled, Run, Slow, compile_group
from kofagent.ottl.items import items
from kofagent.ottl.messages import bare_metric, read, read_request
from kofagent.ottl.outer import outer_only
from kofagent.processors.transform.config import Group
from kofagent.telemetry.batch import Metadata
from kofagent.wire import otlp
from kofagent.wire.edit import POINT_ATTRIBUTES

Report = Callable[[Group, str, EvaluationError | None], None]
"""Does what `error_mode` asks for, for the text of a statement that could not be run."""


class Runner(Protocol):
    """A group, made ready."""

    def run(self, payload: bytes, metadata: Metadata | None) -> bytes:
        """The payload after the group's statements; the same object where nothing changed. ValueError where it is malformed."""
        ...

    def explain(self) -> str:
        """How it is run, with the compiled source if there is one."""
        ...


def runner(group: Group, signal: str, report: Report) -> Runner:
    """The fastest way to run the group."""
    if not group.shared_cache:
        if group.context in ("resource", "scope"):
            if outer_only(group.context, group.conditions, group.statements):
                return _Around(group, signal, report)
        else:
            compiled = compile_group(group.context, group.conditions, group.statements)
            if compiled is not None:
                return _Records(group, report, compiled)
    return Evaluated(group, signal, report)


class Evaluated:
    """Any group, on Google's messages."""

    def __init__(self, group: Group, signal: str, report: Report) -> None:
        self._group = group
        self._signal = signal
        self._report = report
        self._shared: dict[str, Any] | None = {} if group.shared_cache else None

    def share(self, cache: dict[str, Any]) -> None:
        """The cache that the groups of a context have together."""
        if self._shared is not None:
            self._shared = cache

    def explain(self) -> str:
        return "run by the evaluator on the decoded request\n"

    def run(self, payload: bytes, metadata: Metadata | None) -> bytes:
        request = read_request(self._signal, payload)
        self.on_request(request, metadata)
        changed: bytes = request.SerializeToString()
        return payload if changed == payload else changed

    def on_request(self, request: Any, metadata: Metadata | None) -> None:
        """Runs the group on a decoded request, in place."""
        group = self._group

        def complain(message: str) -> None:
            self._report(group, message, None)

        for env in items(group.context, request, metadata):
            env.complain = complain
            if self._shared is not None:
                env.cache = self._shared
            on_item(group, env, self._report)


def on_item(group: Group, env: Env, report: Report) -> None:
    """Runs a group on one item."""
    if group.conditions and not _any(group, env, report):
        return
    for statement in group.statements:
        try:
            statement.apply(env)
        except EvaluationError as error:
            report(group, statement.text, error)


def _any(group: Group, env: Env, report: Report) -> bool:
    for condition in group.conditions:
        try:
            if condition.test(env):
                return True
        except EvaluationError as error:
            report(group, condition.text, error)
    return False


class _Result(NamedTuple):
    """What a group makes of a resource and a scope, and what could not be run."""

    resource: bytes
    scope: bytes
    errors: tuple[tuple[str, EvaluationError | None], ...]


class _Around:
    """A group on resources or scopes that looks at nothing else: run once for each distinct one."""

    def __init__(self, group: Group, signal: str, report: Report) -> None:
        self._group = group
        self._report = report
        self._scopes = group.context == "scope"
        self._known: Memo[tuple[bytes, bytes], _Result] = Memo(
            "ottl.resources",
            self._make,
            entries=8192,
            size=8 << 20,
            cost=lambda key, found: 400 + 2 * (len(key[0]) + len(key[1])) + len(found.resource) + len(found.scope),
        )

    def explain(self) -> str:
        return f"run once for each distinct {self._group.context}, which is then known by its bytes\n"

    def run(self, payload: bytes, metadata: Metadata | None) -> bytes:
        request = otlp.parse_request(payload)
        touched = False
        for entry in request.resources:
            old = entry.resource
            if not self._scopes:
                found = self._found(old, b"")
                if found.resource is not old and found.resource != old:
                    entry.resource, touched = found.resource, True
                continue
            for scope in entry.scopes:
                found = self._found(entry.resource, scope.scope)
                if found.resource != entry.resource:
                    entry.resource, touched = found.resource, True
                if found.scope != scope.scope:
                    scope.scope, touched = found.scope, True
        return request.SerializeToString() if touched else payload

    def _found(self, resource: bytes, scope: bytes) -> _Result:
        found = self._known[resource, scope]
        for text, error in found.errors:
            self._report(self._group, text, error)
        return found

    def _make(self, key: tuple[bytes, bytes]) -> _Result:
        resource, scope = key
        errors: list[tuple[str, EvaluationError | None]] = []
        env = Env(read("resource", resource), read("scope", scope))
        env.complain = lambda message: errors.append((message, None))
        on_item(self._group, env, lambda group, text, error: errors.append((text, error)))
        return _Result(_again(env.resource, resource), _again(env.scope, scope), tuple(errors))


def _again(message: Message, old: bytes) -> bytes:
    """The message's bytes; the old ones where it says the same."""
    new = message.SerializeToString()
    return old if new == old else new


class _Part(NamedTuple):
    """A compiled group."""

    group: Group
    compiled: Compiled
    failed: Callable[[int, EvaluationError], None]


def _part(group: Group, compiled: Compiled, report: Report) -> _Part:
    texts = [statement.text for statement in group.statements], [condition.text for condition in group.conditions]

    def failed(number: int, error: EvaluationError) -> None:
        report(group, texts[0][number] if number >= 0 else texts[1][-1 - number], error)

    return _Part(group, compiled, failed)


class _Records:
    """Compiled groups of one context."""

    def __init__(self, group: Group, report: Report, compiled: Compiled) -> None:
        self._context = group.context
        self._report = report
        self._parts = [_part(group, compiled, report)]

    def joined(self, after: _Records) -> bool:
        """Takes over what is done after this if both can be done while a payload is read once. Whether it has."""
        both = [*self._parts, *after._parts]
        if self._context != after._context or any(part.group.error_mode == "propagate" for part in both):
            return False  # the first error is that of the first group
        if any(part.compiled.needs is not None for part in both):
            return False  # payloads that need not be read are known by what has been done before
        self._parts = both
        return True

    def explain(self) -> str:
        return "".join([part.compiled.source for part in self._parts])

    def run(self, payload: bytes, metadata: Metadata | None) -> bytes:
        # hot: otlp_transform, 7 us a record by two statements (evaluator: 15); what none asks for stays bytes
        if not any(part.compiled.wanted(payload) for part in self._parts):
            return payload
        request = otlp.parse_request(payload)
        touched = False
        for entry in request.resources:
            resource = read("resource", entry.resource)
            for scope in entry.scopes:
                env = Env(resource, read("scope", scope.scope), metadata)
                env.resource_entry, env.scope_entry = entry, scope
                old = list(scope.records)
                new = self._scope(old, env)
                if any(map(_other, new, old)):
                    otlp.replace(scope.records, new)
                    touched = True
        return request.SerializeToString() if touched else payload

    def _scope(self, records: list[bytes], env: Env) -> list[bytes]:
        """The records of a scope after all groups."""
        if self._context == "datapoint":
            try:
                return self._points(self._parts, records, env)
            except Slow:
                pass
        for part in self._parts:
            try:
                if self._context == "datapoint":
                    records = self._points([part], records, env)
                else:
                    records = self._bind(part, env)(records)
            except Slow:
                records = self._slow(part.group, records, env)
        return records

    def _bind(self, part: _Part, env: Env, number: int = 0) -> Run:
        env.complain = lambda message: self._report(part.group, message, None)
        return part.compiled.bind(env, part.failed, number)

    def _points(self, parts: list[_Part], metrics: list[bytes], env: Env) -> list[bytes]:
        """The metrics with their data points changed."""
        runs: dict[tuple[int, int], Run] = {}
        return [self._metric(parts, metric, env, runs) for metric in metrics]

    def _metric(self, parts: list[_Part], record: bytes, env: Env, runs: dict[tuple[int, int], Run]) -> bytes:
        metric = otlp.parse_metric(record)
        kind = metric.WhichOneof("data")
        if kind is None:
            return record
        number = POINT_ATTRIBUTES[kind]
        points = getattr(metric, kind).points
        new = old = list(points)
        for i, part in enumerate(parts):
            if part.compiled.uses_metric:
                env.metric = bare_metric(record, kind)
                run = self._bind(part, env, number)
            else:
                found = runs.get((i, number))
                run = runs[i, number] = found if found is not None else self._bind(part, env, number)
            new = run(new)
        if not any(map(_other, new, old)):
            return record
        otlp.replace(points, new)
        return metric.SerializeToString()  # type: ignore[no-any-return]

    def _slow(self, group: Group, records: list[bytes], around: Env) -> list[bytes]:
        """What the evaluator makes of the records: something around them does not fit a statement."""
        around.complain = lambda message: self._report(group, message, None)
        context = "metric" if group.context == "datapoint" else group.context
        out = []
        for record in records:
            message = read(context, record)
            for env in _items(group.context, message, around):
                on_item(group, env, self._report)
            out.append(_again(message, record))
        return out


def joined(runners: Sequence[Runner]) -> list[Runner]:
    """The same in fewer: neighbours that can be done while a payload is read once."""
    out: list[Runner] = []
    for each in runners:
        last = out[-1] if out else None
        if not (isinstance(last, _Records) and isinstance(each, _Records) and last.joined(each)):
            out.append(each)
    return out


def _items(context: str, message: Any, around: Env) -> list[Env]:
    from kofagent.ottl.paths import points

    found = []
    for inner in points(message) if context == "datapoint" else (message,):
        env = Env(around.resource, around.scope, around.metadata)
        env.resource_entry, env.scope_entry, env.complain = around.resource_entry, around.scope_entry, around.complain
        if context == "datapoint":
            env.metric = message
        setattr(env, context, inner)
        found.append(env)
    return found


def _other(new: object, old: object) -> bool:
    return new is not old
