"""What all operators share: conditions, `on_error`, the way to the next operator. The plain, obvious twin.

An operator changes an `Entry` in place (`transform`) or decides where it goes (`process`). Errors are `OperatorError`;
`on_error` says whether the entry continues unchanged (`send`) or is dropped, counted under the operator's id. Anything else that an
operator raises is a defect of its code: it is treated the same way, and always logged, so that one entry never stops a file.

A new operator is safe as it is: it runs for every entry. `access` and `emit` only make it faster, and the contract test in
`tests/operators/test_contract.py` holds a chain with it against the plain one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_args

from kofagent.operators.access import Access
from kofagent.operators.emit import Names, indent
from kofagent.operators.entry import Entry
from kofagent.operators.errors import DECLARED, OperatorError
from kofagent.operators.expression import ExpressionError
from kofagent.operators.line_formats import LineParser
from kofagent.operators.options import BasicConfig, TransformerConfig, WriterConfig

C = TypeVar("C", bound=BasicConfig)
T = TypeVar("T", bound=TransformerConfig)


class Run(Protocol):
    """What an operator is given together with the entry: where finished entries go, counters, its own state for one file.

    `owner` is whose entries these are, `position` the number of the present one in the call that brought it (operators that `hold`
    need them).
    """

    owner: Any
    position: int

    def out(self, entry: Entry) -> None:
        """Takes an entry that is finished."""
        ...

    def dropped(self, reason: str, n: int) -> None:
        """Counts entries lost to an error."""
        ...

    def filtered(self, rule: str, n: int) -> None:
        """Counts entries left out on request."""
        ...

    def failed(self, operator: AnyOperator, error: Exception, action: str) -> None:
        """Logs an error of a mode that is not quiet (rarely, not for every entry)."""
        ...

    def state(self, operator: AnyOperator) -> dict[Any, Any]:
        """The operator's state for this file."""
        ...


class Operator(Generic[C]):
    """One operator of a chain, with the class of its options: `class Add(Transformer[Config])`.

    `outputs` are set by the chain: None among them is the end of the chain.
    """

    Config: ClassVar[type[BasicConfig]]
    """The class of the options, as the subclass names it in brackets."""
    outputs: list[AnyOperator | None]
    holds: ClassVar[bool] = False
    """Whether it holds entries back to join them."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in cls.__dict__.get("__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, BasicConfig):
                    cls.Config = argument

    def __init__(self, config: C, id: str) -> None:
        self.config = config
        self.id = id
        self.outputs = [None]

    # How it is connected.

    def targets(self) -> list[str]:
        """Ids of operators named as outputs; empty: the next operator."""
        return list(self.config.output) if isinstance(self.config, WriterConfig) else []

    def connect(self, find: Callable[[str], AnyOperator], following: AnyOperator | None) -> None:
        """Sets the outputs."""
        self.outputs = [find(name) for name in self.targets()] or [following]

    # What it does.

    def process(self, entry: Entry, run: Run) -> None:
        """Works on the entry and hands on what comes of it."""
        self.write(entry, run)

    def flush(self, run: Run, now: int, force: bool) -> None:
        """Hands out entries held for too long at `now` (Unix nanoseconds), all of them when `force`."""

    def write(self, entry: Entry, run: Run) -> None:
        """Hands the entry on; every output but the last gets a copy."""
        self.hand_on(self.outputs, entry, run)

    @staticmethod
    def hand_on(outputs: list[AnyOperator | None], entry: Entry, run: Run) -> None:
        """Hands the entry to these outputs, of which there is at least one; every one but the last gets a copy."""
        last = len(outputs) - 1
        for i, output in enumerate(outputs):
            given = entry if i == last else entry.copy()
            if output is None:
                run.out(given)
            else:
                output.process(given, run)

    # What the compiler asks.

    def access(self) -> Access | None:
        """What it reads and writes. None, the default: anything, so it runs for every entry."""
        return None

    def emit(self, names: Names) -> list[str] | None:
        """Statements that do what `process` does up to handing on: they change `entry`, and `continue` where it goes no further.

        None, the default: `process` is called, and what follows it is not compiled.
        """
        return None

    def joins(self, line: bytes, waiting: bool) -> bool:
        """Whether what comes of this line may be joined with what comes of the next one, or with what is held back (`waiting`), and
        nothing is put between: then bytes at its ends that are no UTF-8 may be parts of a character."""
        return False

    def line_parser(self) -> LineParser | None:
        """For the first operator of a chain: what it does with plain lines, where that can be done ahead; None otherwise."""
        return None


AnyOperator = Operator[Any]


class Transformer(Operator[T]):
    """An operator with `if` and `on_error` that changes one entry at a time."""

    Config: ClassVar[type[BasicConfig]] = TransformerConfig

    def skipped(self, entry: Entry) -> bool:
        """Whether `if` says no; OperatorError when it cannot be evaluated."""
        condition = self.config.if_
        if condition is None:
            return False
        try:
            return not condition.test(entry)
        except ExpressionError as error:
            raise OperatorError(f"if: {error}") from None

    def process(self, entry: Entry, run: Run) -> None:
        try:
            if not self.skipped(entry):
                self.transform(entry)
        except Exception as error:
            self.handle(entry, error, run)
            return
        self.write(entry, run)

    def transform(self, entry: Entry) -> None:
        """Changes the entry; OperatorError when that is impossible."""

    def handle(self, entry: Entry, error: Exception, run: Run) -> None:
        """What `on_error` says."""
        mode = self.config.on_error
        if not mode.endswith("_quiet") or not isinstance(error, DECLARED):
            run.failed(self, error, mode)
        if mode.startswith("send"):
            self.write(entry, run)
        else:
            run.dropped(f"operator/{self.id}", 1)

    def by_options(self) -> Access | None:
        """For `access` of operators whose options name all that they read and write of the body."""
        return Access.of(self.config)

    def emit(self, names: Names) -> list[str] | None:
        if type(self).process is not Transformer.process:
            return None
        config = self.config
        work = self.statements(names)
        if config.if_ is not None:
            test = names.condition("c", config.if_) or f"not {names.bind('skipped', self.skipped)}(entry)"
            work = [f"if {test}:", *indent(work, 1)]
        handle = [f"failed({names.bind('operator', self)}, error, {config.on_error!r})"]
        if config.on_error.endswith("_quiet"):
            handle = ["if not isinstance(error, DECLARED):", *indent(handle, 1)]
        if config.on_error.startswith("drop"):
            handle += [f"dropped({names.bind('drop', f'operator/{self.id}')}, 1)", "continue"]
        return [f"try:  # {config.type}", *indent(work, 1), "except Exception as error:", *indent(handle, 1)]

    def statements(self, names: Names) -> list[str]:
        """Statements that do to `entry` what `transform` does, its errors included; by default they call it."""
        return [f"{names.bind('transform', self.transform)}(entry)"]
