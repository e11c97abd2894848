"""A receiver that was started for an endpoint, and what happens to it. Each is a task of its own: none waits for another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from kofagent.component import registry
from kofagent.component.backoff import Backoff
from kofagent.component.checkpoints import StorageExtension
from kofagent.component.protocols import ColumnsConsumer, Context, Host, Kubeconfig, Receiver, StartError
from kofagent.config.tree import Origin, node_of
from kofagent.config.validation_errors import problems_of
from kofagent.net.os_errors import os_reason
from kofagent.net.transport import confined
from kofagent.receivers.receiver_creator.accounts import ChildLedger, Gauges
from kofagent.receivers.receiver_creator.attributes import Enhancer
from kofagent.receivers.receiver_creator.stores import Part, Shared
from kofagent.telemetry.ledger import Ledger
from kofagent.telemetry.signal import Signal

R = TypeVar("R")
READ_FILES = frozenset({"filelog"})
"""What they read is still there when the endpoint is gone."""
FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0
"""Seconds until a receiver that could not start is tried again."""
QUIET_SECONDS = 10.0
"""So long a receiver of files has to have nothing to do, after the end of what it reads, before it is stopped."""
LOOK_SECONDS = 1.0
"""Time between two looks whether it has something to do."""
LONGEST_END = 3600.0
"""Seconds after which it is stopped although nobody took what it has."""


@dataclass
class Spec:
    """What is to run for an endpoint."""

    type: str
    options: dict[str, Any]
    attributes: dict[str, str]
    signals: frozenset[Signal]
    over: bool = False
    """What it reads has ended: it may stop when it has read everything."""
    hinted: bool = False
    """An annotation asks for it: it asks the pod, and no server that the pod sends it to."""


@dataclass
class Frame:
    """What the receivers of one creator have in common."""

    context: Context
    outputs: Mapping[Signal, ColumnsConsumer]
    report: Callable[[str, str | None], None]
    """Sets the status of a receiver by its name."""
    gauges: Gauges = field(default_factory=Gauges)
    stores: dict[str, Shared] = field(default_factory=dict)

    def store(self, storage: str) -> Shared:
        """The one store in a storage extension."""
        if storage not in self.stores:
            self.stores[storage] = Shared(self.context, storage)
        return self.stores[storage]


class ChildContext(Context):
    """The context of a receiver. Its logger is known to nobody else: those that Python registers are never forgotten."""

    def __init__(self, frame: Frame, id: str, host: ChildHost) -> None:
        self.kind = frame.context.kind
        self.id = id
        self.host = host
        self.ledger = host.ledger
        of = f"{host.collector}." if host.collector else ""
        self.log = logging.Logger(f"kofagent.{of}{self.kind}.{id}")
        self.log.parent = frame.context.log


class ChildHost:
    """The service as a receiver sees it: its own part of the ledger and of stores, its status is a part of the creator's."""

    def __init__(self, frame: Frame, ledger: Ledger, name: str, part: str) -> None:
        self._host: Host = frame.context.host
        self._frame = frame
        self._name = name
        self._part = part
        self.ledger = ledger
        self.keep_retrying = self._host.keep_retrying
        self.kubeconfig: Kubeconfig | None = self._host.kubeconfig
        self.collector = self._host.collector

    @property
    def resource(self) -> Mapping[str, str]:
        """As `Host.resource`."""
        return self._host.resource

    def extension(self, id: str, role: type[R]) -> R:
        """As `Host.extension`."""
        found = self._host.extension(id, role)
        if role is StorageExtension:
            part: Any = Part(self._frame.store(id), self._part)
            mine: R = part
            return mine
        return found

    def shared(self, key: Hashable, make: Callable[[], R]) -> R:
        """As `Host.shared`."""
        return self._host.shared(key, make)

    def common(self, key: Hashable, make: Callable[[], R]) -> R:
        """As `Host.common`."""
        return self._host.common(key, make)

    def kept(self, key: Hashable, make: Callable[[], R]) -> R:
        """As `Host.kept`."""
        return self._host.kept(key, make)

    def reserve(self, size: int) -> bool:
        """As `Host.reserve`."""
        return self._host.reserve(size)

    def release(self, size: int) -> None:
        """As `Host.release`."""
        self._host.release(size)

    def report(self, component: str, error: str | None) -> None:
        """As `Host.report`."""
        self._frame.report(self._name, error)

    def status(self) -> Mapping[str, str | None]:
        """As `Host.status`."""
        return self._host.status()

    def describe(self) -> Mapping[str, Any]:
        """As `Host.describe`."""
        return self._host.describe()


class Child:
    """Runs what `want` says last. `ended` is called when there is nothing left of it."""

    def __init__(
        self, frame: Frame, key: str, endpoint: str, from_beginning: bool, earlier: Sequence[Child], ended: Callable[[], None]
    ) -> None:
        """`earlier` ran for the same endpoint before: what of them is about to stop has stopped before this one begins."""
        self.part = f"{key}|{endpoint}"
        """What its part of a store is called."""
        self._frame = frame
        self._account = f"{key}/{frame.context.id}"
        self.name = f"{key}/{frame.context.id}/{endpoint}"
        self._from_beginning = from_beginning
        self._earlier = earlier
        self._at_once = False
        self._ended = ended
        self._wanted: Spec | None = None
        self._changed = asyncio.Event()
        self._running: Spec | None = None
        self._receiver: Receiver[Any] | None = None
        self._enhancers: list[Enhancer] = []
        self._log = frame.context.log
        self._task: asyncio.Task[None] | None = None

    @property
    def runs(self) -> bool:
        """Whether the receiver runs now."""
        return self._receiver is not None and self._running is not None

    def want(self, spec: Spec | None, *, at_once: bool = False) -> None:
        """What is to run from now on; None: nothing. `at_once`: without reading to the end, since another one reads on."""
        if spec == self._wanted:
            return
        self._wanted, self._at_once = spec, at_once
        self._changed.set()
        if self._task is None and spec is not None:
            self._task = asyncio.create_task(self._live(), name=self.name)

    async def wind_down(self) -> None:
        """As `Receiver.wind_down`."""
        if self._receiver is not None:
            await self._receiver.wind_down()

    async def stop(self) -> None:
        """Stops it at once; what it has is drained as that receiver does at a stop."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._stop()

    def settled(self) -> bool:
        """As `Receiver.settled`."""
        if self._wanted is None or self._running is not None:
            return self._receiver is None or self._receiver.settled()
        return False

    async def _live(self) -> None:
        if ending := [each._task for each in self._earlier if each._wanted is None and each._task is not None]:
            await asyncio.wait(ending)
        self._earlier = ()
        backoff = Backoff(FIRST_RETRY, LONGEST_RETRY)
        while True:
            self._changed.clear()
            spec = self._wanted
            if spec is None:
                if not await self._ends():
                    continue
                break
            if self._fits(spec):
                self._running = spec
                self._set(spec.attributes)
            else:
                await self._stop()
                error = await self._begin(spec)
                if error is not None:
                    self._log.warning("%s: %s; it is tried again", self.name, error)
                    self._frame.report(self.name, error)
                    await self._wait(backoff.next())
                    continue
                backoff = Backoff(FIRST_RETRY, LONGEST_RETRY)
            if spec.over and self._receiver is not None:
                if not await self._reads_to_the_end():
                    continue
                await self._stop()
                self._running = spec  # that is done, and not begun again
            await self._changed.wait()
        self._ended()

    def _fits(self, spec: Spec) -> bool:
        """Whether what runs, or has run to its end, is what is wanted."""
        running = self._running
        if running is None or (self._receiver is None and not spec.over):
            return False
        return (running.type, running.options) == (spec.type, spec.options)

    async def _ends(self) -> bool:
        """Nothing is wanted any more: ends what runs. False when something is wanted after all."""
        files = self._receiver is not None and self._running is not None and self._running.type in READ_FILES
        if files and not self._at_once and not await self._reads_to_the_end():
            return False
        if self._receiver is not None:
            self._receiver.reads_on = False
        await self._stop()
        self._frame.report(self.name, None)
        await self._forget()
        return self._wanted is None

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _reads_to_the_end(self) -> bool:
        """Waits until all is read and taken, and nothing more comes. False when something else is wanted before."""
        loop = asyncio.get_running_loop()
        latest, quiet = loop.time() + LONGEST_END, loop.time()
        while (now := loop.time()) < latest and now - quiet < QUIET_SECONDS:
            await self._wait(min(LOOK_SECONDS, QUIET_SECONDS))
            if self._changed.is_set():
                return False
            if self._receiver is not None and not self._receiver.settled():
                quiet = loop.time()
        if now >= latest:
            self._log.warning("%s: it is stopped with data that nobody took for %g s", self.name, LONGEST_END)
        return True

    async def _begin(self, spec: Spec) -> str | None:
        """Starts it; a sentence when that is not possible now."""
        confined.set(spec.hinted)  # for all tasks that it starts; this one has no clients
        try:
            self._receiver = self._make(spec)
            await self._receiver.start()
        except ValidationError as error:
            model = registry.load("receivers", spec.type).Config
            sentence = "; ".join([str(each) for each in problems_of(error, model, node_of(spec.options, Origin()))])
        except StartError as error:
            sentence = str(error)
        except OSError as error:
            sentence = os_reason(error)
        except Exception as error:
            self._log.exception("%s: it failed while starting", self.name)
            sentence = f"failed while starting ({type(error).__name__})"
        else:
            self._running = spec
            self._from_beginning = False
            self._frame.report(self.name, None)
            self._log.info("%s started", self.name)
            return None
        await self._stop()
        return sentence

    def _make(self, spec: Spec) -> Receiver[Any]:
        cls = registry.load("receivers", spec.type)
        options = dict(spec.options)
        if spec.type in READ_FILES and self._from_beginning:
            options["start_at"] = "beginning"
        config = cls.Config.model_validate(options)
        frame = self._frame
        ledger = ChildLedger(frame.context.ledger, self.name, self._account, frame.gauges)
        receiver = cls(config, ChildContext(frame, self.name, ChildHost(frame, ledger, self.name, self.part)))
        assert isinstance(receiver, Receiver)
        receiver.outputs = {}
        self._enhancers = []
        for signal, consumer in frame.outputs.items():
            if signal in spec.signals and signal in cls.signals:
                enhancer = Enhancer(consumer, self._dropped(signal))
                self._enhancers.append(enhancer)
                receiver.outputs[signal] = enhancer
        self._set(spec.attributes)
        return receiver

    def _dropped(self, signal: Signal) -> Callable[[str, int], None]:
        return lambda reason, items: self._frame.context.ledger.dropped(self._account, signal, reason, items)

    def _set(self, attributes: Mapping[str, str]) -> None:
        for enhancer in self._enhancers:
            enhancer.set(attributes)

    async def _stop(self) -> None:
        receiver = self._receiver
        if receiver is not None:
            try:
                await receiver.stop()
            except Exception:
                self._log.exception("%s failed while stopping", self.name)
            self._frame.report(self.name, None)
        self._receiver = self._running = None

    async def _forget(self) -> None:
        """What it kept in stores is of a pod that is gone."""
        for shared in list(self._frame.stores.values()):
            try:
                await shared.remove(self.part)
            except (OSError, StartError) as error:
                self._log.warning("%s: its state cannot be removed: %s", self.name, error)
