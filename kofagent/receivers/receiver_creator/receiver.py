"""The receiver: what observers tell becomes receivers that run."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

from kofagent.component import registry
from kofagent.component.log_limit import LogLimit
from kofagent.component.observing import Endpoint, Observation, Observer, Wanted
from kofagent.component.protocols import Context, Receiver, StartError
from kofagent.operators.expression import ExpressionError
from kofagent.receivers.receiver_creator.attributes import ResourceAttributes
from kofagent.receivers.receiver_creator.children import READ_FILES, Child, Frame, Spec
from kofagent.receivers.receiver_creator.config import Config, TemplateBlock
from kofagent.receivers.receiver_creator.hints import LOGS, Refusal, hint
from kofagent.receivers.receiver_creator.plausible import plausible
from kofagent.receivers.receiver_creator.rules import Rule
from kofagent.receivers.receiver_creator.stores import STARTED
from kofagent.receivers.receiver_creator.templates import compile_templates, fill
from kofagent.telemetry.signal import Signal

MOST = 2000
"""Receivers that run at a time."""
STALE_SECONDS = 900.0
"""What a store has of endpoints that are not there so long after the start is removed."""
NAMED = 5
"""Receivers with errors that the status names."""
LOG_EVERY = 60.0


class Entry(NamedTuple):
    """An entry of `receivers`."""

    key: str
    type: str
    rule: Rule
    options: Any
    """Those of the receiver, compiled."""
    attributes: ResourceAttributes
    storage: str | None
    """The storage extension that it keeps its state in."""


class View:
    """What is wanted of the observers by those receivers that read files, or by the others."""

    def __init__(self, files: bool, entries: list[Entry], hints: frozenset[str]) -> None:
        self.files = files
        self.entries = entries
        self.hints = hints
        self.wanted = Wanted(frozenset(each.rule.type for each in entries) | hints, files)


class ReceiverCreator(Receiver[Config]):
    """Starts, restarts and stops receivers; see the package."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._entries = [
            Entry(
                key,
                registry.resolve("receivers", registry.type_of(key)) or "",
                Rule(block.rule),
                compile_templates(block.config),
                ResourceAttributes(config, block),
                _storage(block),
            )
            for key, block in config.receivers.items()
        ]
        self._of_hints = ResourceAttributes(config, None)
        self._children: dict[str, dict[str, Child]] = {}
        """By endpoint, then by name."""
        self._count = 0
        self._observations: list[Observation] = []
        self._frame = Frame(context, {}, self._report)
        self._errors: dict[str, str] = {}
        self._log_limit = LogLimit(LOG_EVERY)
        self._first_look = 0.0
        self._pruning: asyncio.Task[None] | None = None

    def explain(self) -> str:
        """Which receiver is for which endpoints, and what each compiles, for an endpoint that is made up."""
        out = []
        for entry in self._entries:
            out.append(f"# {entry.key}: {entry.rule.text}")
            endpoint = plausible(entry.rule.type)
            try:
                cls = registry.load("receivers", entry.type)
                options = _with_endpoint(entry.type, fill(entry.options, endpoint.env()), endpoint)
                out.append(cls(cls.Config.model_validate(options), self.context).explain())
            except (ExpressionError, ValueError, StartError) as error:
                out.append(f"# cannot be shown before there is an endpoint ({type(error).__name__})")
        return "\n".join(filter(None, out))

    def settled(self) -> bool:
        """As `Receiver.settled`."""
        return all(child.settled() for child in self._all())

    def _all(self) -> list[Child]:
        return [child for of_one in self._children.values() for child in of_one.values()]

    async def start(self) -> None:
        """Watches the observers. StartError when one does not run."""
        self._frame.outputs = self.outputs
        observers = [self.context.host.extension(id, Observer) for id in self.config.watch_observers]
        usable = self._usable()
        await self._look_back(usable)
        views = self._views(usable)
        for view in views:
            for observer in observers:
                self._observations.append(observer.observe(view.wanted, lambda id, at, view=view: self._told(view, id, at)))  # type: ignore[misc]
        seen: frozenset[str] = frozenset().union(*(getattr(each, "types", frozenset()) for each in observers))
        for entry in usable:
            if entry.rule.type not in seen and observers:
                self.context.log.warning("%s: no observer has endpoints of type %r", entry.key, entry.rule.type)
        if self._frame.stores:
            self._pruning = asyncio.create_task(self._prune(), name=f"{self.context.id} state")

    def _usable(self) -> list[Entry]:
        """The entries whose receivers bring in something that a pipeline is for."""
        out = []
        for entry in self._entries:
            if registry.load("receivers", entry.type).signals & set(self.outputs):
                out.append(entry)
            else:
                signals = " and ".join(sorted(signal.value for signal in self.outputs))
                self.context.log.warning(
                    "%s brings in no %s, which %s is for: it is not started", entry.key, signals, self.context.id
                )
        return out

    def _views(self, entries: list[Entry]) -> list[View]:
        """Receivers of files see the containers of this node, also those that have ended; the others what can be reached now."""
        signals, discovery = set(self.outputs), self.config.discovery.enabled
        of_files = [e for e in entries if e.type in READ_FILES and e.rule.type == "pod.container"]
        logs = frozenset({"pod.container"} if discovery and Signal.LOGS in signals else ())
        metrics = frozenset({"port"} if discovery and Signal.METRICS in signals else ())
        views = [View(True, of_files, logs), View(False, [e for e in entries if e not in of_files], metrics)]
        return [view for view in views if view.wanted.types]

    async def _look_back(self, entries: list[Entry]) -> None:
        """When this creator first ran, as its stores know; what came since then is read from its beginning."""
        self._first_look = now = time.time()
        for storage in dict.fromkeys(each.storage for each in entries if each.storage):
            store = await self._frame.store(storage).open()
            try:
                known = await store.get(STARTED)
                if known is None:
                    await store.set(STARTED, str(time.time_ns()).encode())
                else:
                    self._first_look = min(self._first_look, int(known) / 1e9)
            except (OSError, ValueError) as error:
                raise StartError(f"{storage}: the state cannot be read: {error}") from None
        if self._first_look == now:
            self._first_look = float("inf")

    async def wind_down(self) -> None:
        """As `Receiver.wind_down`, of all receivers."""
        await asyncio.gather(*[child.wind_down() for child in self._all()], return_exceptions=True)

    async def stop(self) -> None:
        """Stops all receivers at once."""
        pruning, self._pruning = self._pruning, None
        if pruning is not None:
            pruning.cancel()
            await asyncio.gather(pruning, return_exceptions=True)
        observations, self._observations = self._observations, []
        for each in observations:
            await each.stop()
        children, self._children, self._count = self._all(), {}, 0
        await asyncio.gather(*[child.stop() for child in children])
        stores, self._frame.stores = list(self._frame.stores.values()), {}
        for shared in stores:
            await shared.close()

    async def _prune(self) -> None:
        """Removes what stores have of endpoints that were gone before this start."""
        for observation in self._observations:
            await observation.synced.wait()
        await asyncio.sleep(STALE_SECONDS)
        for shared in list(self._frame.stores.values()):
            try:
                for part in await shared.parts() - {child.part for child in self._all()}:
                    await shared.remove(part)
            except OSError as error:
                self.context.log.warning("old state cannot be removed: %s", error)

    def _told(self, view: View, id: str, endpoint: Endpoint | None) -> None:
        """An endpoint came, changed, or is gone."""
        try:
            wanted = {} if endpoint is None else self._specs(view, endpoint)
        except Exception:
            self.context.log.exception("the endpoint %s is left out", id)
            wanted = {}
        earlier = [child for key, child in self._children.get(id, {}).items() if self._is_of(key, view)]
        for key, child in self._children.get(id, {}).items():
            if key not in wanted and self._is_of(key, view):
                child.want(None, at_once=bool(wanted))
        for key, spec in wanted.items():
            assert endpoint is not None
            found = self._children.get(id, {}).get(key) or self._child(key, endpoint, earlier)
            if found is not None:
                found.want(spec)

    def _child(self, key: str, endpoint: Endpoint, earlier: list[Child]) -> Child | None:
        """A new receiver, None when there are too many. One that comes after others goes on where they were, not before."""
        if self._count >= MOST:
            self._report("", f"more than {MOST} receivers would run; the others are not started")
            return None
        from_beginning = not earlier and (endpoint.fresh or endpoint.since > self._first_look)
        child = Child(self._frame, key, endpoint.id, from_beginning, earlier, lambda: self._gone(key, endpoint.id))
        self._children.setdefault(endpoint.id, {})[key] = child
        self._count += 1
        return child

    def _is_of(self, key: str, view: View) -> bool:
        """Whether the receivers of this name are of the view."""
        if key in self.config.receivers:
            return any(each.key == key for each in view.entries)
        return (key == _hinted(LOGS)) == view.files

    def _gone(self, key: str, id: str) -> None:
        of_one = self._children.get(id, {})
        if of_one.pop(key, None) is None:
            return
        self._count -= 1
        if not of_one:
            del self._children[id]
        if self._count < MOST:
            self._report("", None)

    def _specs(self, view: View, endpoint: Endpoint) -> dict[str, Spec]:
        """What is to run for an endpoint, by name."""
        env = endpoint.env()
        if endpoint.type in view.hints:
            try:
                asked = hint(endpoint, self.config.discovery, self._hint_storage())
            except Refusal as refusal:
                self._complain(endpoint, f"what its annotations ask for is refused: {refusal}")
                return {}
            except ValueError as error:
                self._complain(endpoint, f"what its annotations ask for cannot be read: {error}")
                return {}
            if asked is not None:
                attributes = self._of_hints.of(endpoint.type, env)
                options = _with_endpoint(asked.type, asked.options, endpoint)
                signals = frozenset({Signal(asked.signal)})
                return {_hinted(asked.type): Spec(asked.type, options, attributes, signals, endpoint.over, hinted=True)}
        out = {}
        for entry in view.entries:
            if entry.rule.type != endpoint.type or (endpoint.over and entry.type not in READ_FILES):
                continue
            try:
                if not entry.rule.test(env):
                    continue
                options = _with_endpoint(entry.type, fill(entry.options, env), endpoint)
                attributes = entry.attributes.of(endpoint.type, env)
            except (ExpressionError, ValueError) as error:
                self._complain(endpoint, f"{entry.key}: {error}")
                continue
            out[entry.key] = Spec(entry.type, options, attributes, frozenset(Signal), endpoint.over)
        return out

    def _hint_storage(self) -> str | None:
        """The storage that receivers of files have here, for those that annotations ask for."""
        return next((each.storage for each in self._entries if each.type in READ_FILES and each.storage), None)

    def _complain(self, endpoint: Endpoint, sentence: str) -> None:
        if self._log_limit.due((endpoint.id, sentence)):
            self.context.log.warning("%s: %s", endpoint.id, sentence)

    def _report(self, name: str, error: str | None) -> None:
        """The status of one receiver; that of the creator names some of those that do not work."""
        if error is None and name not in self._errors:
            return
        if error is None:
            del self._errors[name]
        else:
            self._errors[name] = error
        said = [f"{name}: {each}" if name else each for name, each in list(self._errors.items())[:NAMED]]
        more = len(self._errors) - len(said)
        self.context.report("; ".join([*said, f"and {more} more"] if more else said) or None)


def _hinted(type: str) -> str:
    """The name of a receiver that an annotation asks for; none of `receivers` has it."""
    return f"{type}/discovery"


def _storage(block: TemplateBlock) -> str | None:
    """The storage extension that a receiver keeps its state in."""
    found = block.config.get("storage")
    return found if isinstance(found, str) and "`" not in found else None


def _with_endpoint(type: str, options: dict[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    """The address of the endpoint for a receiver that takes one and was not given any."""
    if "endpoint" not in options and "endpoint" in registry.load("receivers", type).Config.model_fields:
        return {**options, "endpoint": endpoint.target}
    return options


__all__ = ["ReceiverCreator"]
