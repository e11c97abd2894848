"""The protocols that every component implements, and the context it is given.

Life of a component: `__init__` (validated options, no I/O), `start` (binds ports, opens files; an error here fails the whole
start with one clear sentence), then work, then `stop` (idempotent; receivers stop taking data first, processors flush,
exporters drain what they hold). Starting happens from exporters up to receivers, stopping from receivers down to exporters.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, get_args, runtime_checkable

from kofagent.config.base import ComponentConfig
from kofagent.telemetry.batch import AnyBatch, Batch, Metadata
from kofagent.telemetry.ledger import Ledger
from kofagent.telemetry.signal import Signal

ALL_SIGNALS = frozenset(Signal)
C = TypeVar("C", bound=ComponentConfig)
"""The options of a component."""
R = TypeVar("R")
"""What an extension is named for: `ClientAuth`, `ServerAuth`, `StorageExtension`."""


class Consumer(Protocol):
    """Takes serialized OTLP. In front of it the graph converts scraped samples, once for all consumers that need it."""

    async def consume(self, batch: Batch) -> None:
        """Returns when a component downstream owns the data (delivered, or durably queued as configured).

        Raises `Refused` otherwise. `Refused(permanent=True)` was already counted as dropped by the consumer that raised it;
        any other refusal leaves the data with the caller, who offers it again or counts it as dropped.
        Cancelling the call withdraws the data where no request with it is under way.
        """
        ...


class ColumnsConsumer(ABC):
    """A consumer that takes a `MetricBatch` as it is, too. A component says so by inheriting from this class."""

    @abstractmethod
    async def consume(self, batch: AnyBatch) -> None:
        """As `Consumer.consume`."""


class StartError(Exception):
    """A component cannot start; the message says what is wrong and what to do, without secrets."""


class Kubeconfig(NamedTuple):
    """What `--kubeconfig` and `--context` name."""

    path: str = ""
    """Empty: kubectl's own search, $KUBECONFIG, else ~/.kube/config."""
    context: str = ""
    """Empty: the current context."""


class Host(Protocol):
    """What the running service offers its components."""

    ledger: Ledger
    keep_retrying: bool
    """True for KOF's own pipelines: a `max_elapsed_time` the user did not set means 0, retry for ever."""
    collector: str
    """Which of several collectors of the process this is; empty where there is one."""
    kubeconfig: Kubeconfig | None
    """How components whose auth_type is serviceAccount or kubeConfig reach the API server; None: as the pod does."""

    @property
    def resource(self) -> Mapping[str, str]:
        """`service.name`, `service.version`, `service.instance.id` of this agent."""
        ...

    def extension(self, id: str, role: type[R]) -> R:
        """The running extension `id` as what it is named for; StartError when it does not run or cannot be used so."""
        ...

    def shared(self, key: Hashable, make: Callable[[], R]) -> R:
        """What `make` returned when `key` was first asked for: one object for all components that run together.

        A reload forgets it. Begin a key with what its owner makes, so that keys of others differ.
        """
        ...

    def common(self, key: Hashable, make: Callable[[], R]) -> R:
        """As `shared`, but one object for the components of all collectors of the process.

        It is forgotten once no collector that asked for it runs on. What its users start and stop counts them itself, since one
        of them may end, or be reloaded, long before the others.
        """
        ...

    def kept(self, key: Hashable, make: Callable[[], R]) -> R:
        """As `shared`, but a reload keeps it for the next components that ask for it; without any it is forgotten.

        For what was learned from the data, such as the last values of counters. Asked for in `start`.
        """
        ...

    def reserve(self, size: int) -> bool:
        """Takes `size` bytes from the budget of data held in memory; False when there is no room."""
        ...

    def release(self, size: int) -> None:
        """Gives back what `reserve` took."""
        ...

    def report(self, component: str, error: str | None) -> None:
        """Sets the component's status for health_check and zpages: an error sentence, or None for well."""
        ...

    def status(self) -> Mapping[str, str | None]:
        """The status of every component by `kind/id`: an error sentence, or None for well."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Pipelines and their components as plain data, for zpages and `dev`."""
        ...


class Context:
    """What a component gets in addition to its options. `id` is its full name, as `otlphttp/logs`."""

    def __init__(self, kind: str, id: str, host: Host) -> None:
        self.kind = kind
        self.id = id
        self.host = host
        self.ledger = host.ledger
        of = f"{host.collector}." if host.collector else ""
        self.log = logging.getLogger(f"kofagent.{of}{kind}.{id}")

    def report(self, error: str | None) -> None:
        """Sets this component's status; None for well."""
        self.host.report(f"{self.kind}/{self.id}", error)


class Component(ABC, Generic[C]):
    """Base of all components, with the class of its options: `class Otlp(Exporter[Config])`.

    A module defines exactly one concrete subclass and names it in `COMPONENT`.
    """

    Config: ClassVar[type[ComponentConfig]]
    """The class of the options, as the subclass names it in brackets."""
    signals: ClassVar[frozenset[Signal]] = ALL_SIGNALS
    """Signals it can be used for; a pipeline of another signal is a configuration error."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in cls.__dict__.get("__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, ComponentConfig):
                    cls.Config = argument

    def __init__(self, config: C, context: Context) -> None:
        self.config = config
        self.context = context

    def explain(self) -> str:
        """What was compiled from the options, in lines, for `kofagent explain`; empty when there is nothing to say."""
        return ""

    async def start(self) -> None:
        """Takes what it needs from the outside; raises StartError."""

    async def stop(self) -> None:
        """Gives everything back. May be called without `start` and more than once."""


class Receiver(Component[C]):
    """Brings data in. The graph fills `outputs` before `start`: the consumer of every signal that a pipeline uses."""

    outputs: dict[Signal, ColumnsConsumer]
    reads_on = True
    """False before a `stop` after which nobody reads on from the state that it keeps: what it holds then is lost, and counted."""

    async def wind_down(self) -> None:
        """Before the `stop` of a reload, while everything else still runs: ends what is under way and would be lost by it."""

    def settled(self) -> bool:
        """Whether nothing that was there at the last look is still to be brought in, or waits for somebody to take it."""
        return True


class Processor(Component[C]):
    """One instance per pipeline; the graph sets `next` before `start`. `signal` is that of its pipeline, `pipeline` its name."""

    next: ColumnsConsumer
    signal: Signal
    pipeline: str = ""
    owns: ClassVar[bool] = False
    """Whether `consume` returns when the processor itself holds the data, in memory, because it has to wait for more.
    `kofagent_processor_held_items` says how much that is."""

    @abstractmethod
    async def consume(self, batch: Batch) -> None:
        """As `Consumer.consume`."""


class Exporter(Component[C]):
    """Takes data out. One instance serves all pipelines that name it."""

    @abstractmethod
    async def consume(self, batch: Batch) -> None:
        """As `Consumer.consume`."""


class Connector(Component[C]):
    """Exporter of some pipelines and receiver of others: `outputs` maps a pipeline's name (`logs/audit`) to its consumer.

    `routes` lists the (from, to) signals it can join.
    """

    outputs: dict[str, ColumnsConsumer]
    routes: ClassVar[frozenset[tuple[Signal, Signal]]] = frozenset((s, s) for s in Signal)

    @abstractmethod
    async def consume(self, batch: Batch) -> None:
        """As `Consumer.consume`."""


class Extension(Component[C]):
    """Runs outside of the pipelines; others get it with `context.host.extension(id, role)`."""

    def pipelines_ready(self) -> None:
        """Called when every component has started."""

    def pipelines_stopping(self) -> None:
        """Called before the first component is stopped."""


@runtime_checkable
class ClientAuth(Protocol):
    """An extension that can be named under `auth.authenticator` of a client."""

    async def request_headers(self, metadata: Metadata | None) -> Mapping[str, str]:
        """Headers to add to one outgoing request; gRPC sends them as metadata."""
        ...


class Unauthorized(Exception):
    """Server authentication failed; the message has no secret in it."""


@runtime_checkable
class ServerAuth(Protocol):
    """An extension that can be named under `auth.authenticator` of a server."""

    async def authenticate(self, headers: Mapping[str, str]) -> Metadata:
        """Who it is, as metadata to add to the batch (may be empty); raises Unauthorized. Names in lower case."""
        ...


@runtime_checkable
class LeaderElector(Protocol):
    """An extension that can be named under `k8s_leader_elector` of a receiver."""

    def is_leader(self) -> bool:
        """Whether this replica leads now."""
        ...

    async def changed(self, leads: bool) -> None:
        """Returns when `is_leader` does not say `leads`."""
        ...


_ROLES = {
    "ClientAuth": "sign requests of a client",
    "ServerAuth": "check requests to a server",
    "StorageExtension": "store data",
    "LeaderElector": "elect a leader",
    "QueueStorage": "store queues",
    "Observer": "observe endpoints",
}


def in_role(extension: object | None, id: str, role: type[R]) -> R:
    """`extension`, found under `id` (None: not found), as what it is named for; StartError when it is not that."""
    if extension is None:
        raise StartError(f"extension {id!r} is not running; add it to service.extensions")
    if not isinstance(extension, role):
        raise StartError(f"extension {id!r} cannot {_ROLES.get(role.__name__, f'be used as {role.__name__}')}; name another one")
    return extension
