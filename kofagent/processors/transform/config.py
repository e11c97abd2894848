"""Options of `transform`, in upstream's spelling."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import Field, field_validator

from kofagent.config.base import ComponentConfig
from kofagent.config.errors import ConfigErrors, Problem, suggest
from kofagent.ottl import Condition, OttlError, Statement, infer_context, parse_condition, parse_statement
from kofagent.ottl.options import CONTEXTS, ErrorMode, in_small_letters, or_strings
from kofagent.telemetry.signal import Signal

LISTS = {"trace_statements": Signal.TRACES, "metric_statements": Signal.METRICS, "log_statements": Signal.LOGS}


class Group(NamedTuple):
    """Statements that run together on every item of a context."""

    place: str
    context: str
    statements: list[Statement]
    conditions: list[Condition]
    error_mode: str
    shared_cache: bool


class StatementGroup(ComponentConfig):
    """Statements of one context."""

    context: str = Field("", description="OTTL context; default: the one that the paths begin with (log.body).")
    error_mode: ErrorMode | None = Field(None, description="As error_mode of the processor; default: that one.")
    conditions: list[str] = Field([], description="OTTL conditions; the statements run where one of them is true, or always.")
    statements: list[str] = Field([], description="OTTL statements, run from top to bottom.")
    shared_cache: bool = Field(False, description="The cache is one for all items and groups of its context that share it.")

    flatten: bool = Field(False, description="Not supported: upstream refuses it without a feature gate, too.")

    _lower = field_validator("context", "error_mode", mode="before")(in_small_letters)

    @field_validator("flatten")
    @classmethod
    def _no_flattening(cls, value: bool) -> bool:
        if value:
            raise ValueError("flatten needs upstream's feature gate transform.flatten.logs, which there is not here")
        return value


class _Texts(StatementGroup):
    """Statements written as strings, without a group around them; `first` is the place of the first in its list."""

    first: int = 0


def _list(signal: str) -> Any:
    return Field([], description=f"Statements for {signal}, as strings or groups.", json_schema_extra=or_strings)


class Config(ComponentConfig):
    """Options of transform."""

    error_mode: ErrorMode = Field(
        "ignore",
        description="When a statement cannot be run: ignore logs it and goes on, silent goes on, propagate drops the payload.",
    )
    trace_statements: list[StatementGroup] = _list("traces")
    metric_statements: list[StatementGroup] = _list("metrics")
    log_statements: list[StatementGroup] = _list("logs")
    profile_statements: list[Any] = Field([], description="Accepted for compatibility; profiles are not received.")
    flatten_data: bool = Field(False, description="Not supported: upstream refuses it without a feature gate, too.")

    _lower = field_validator("error_mode", mode="before")(in_small_letters)

    @field_validator("flatten_data")
    @classmethod
    def _no_flattening(cls, value: bool) -> bool:
        if value:
            raise ValueError("flatten_data needs upstream's feature gate transform.flatten.logs, which there is not here")
        return value

    @field_validator(*LISTS, mode="before")
    @classmethod
    def _strings_are_one_group(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        if any(item is None for item in value):
            raise ValueError("an entry is empty; write a statement or a group")
        first = next((i for i, item in enumerate(value) if isinstance(item, str)), len(value))
        if any(isinstance(item, dict) for item in value[first:]):
            raise ValueError("a group cannot stand behind statements written as strings; write all of them as groups")
        if first == len(value) or not all(isinstance(item, str) for item in value[first:]):
            return value
        return [*value[:first], _Texts(statements=value[first:], first=first)]

    @field_validator(*LISTS)
    @classmethod
    def _parse(cls, value: list[StatementGroup], info: Any) -> list[StatementGroup]:
        problems: list[Problem] = []
        for i, group in enumerate(value):
            problems += _problems(group, i, LISTS[info.field_name])
        if problems:
            raise ConfigErrors(problems)
        return value

    def groups(self, signal: Signal) -> list[Group]:
        """The groups of a signal, compiled."""
        name = next(name for name, of in LISTS.items() if of is signal)
        found = []
        for i, group in enumerate(getattr(self, name)):
            context, qualified = _context(group, signal)
            found.append(
                Group(
                    name if isinstance(group, _Texts) else f"{name}[{i}]",
                    context,
                    [parse_statement(text, context, qualified=qualified) for text in group.statements],
                    [parse_condition(text, context, qualified=qualified) for text in group.conditions],
                    group.error_mode or self.error_mode,
                    group.shared_cache,
                )
            )
        return found


def _context(group: StatementGroup, signal: Signal) -> tuple[str, bool]:
    """The context of a group, and whether it was inferred. OttlError."""
    if group.context:
        return group.context, False
    if not group.statements and not group.conditions:
        return CONTEXTS[signal][-1], True
    return infer_context(group.conditions, CONTEXTS[signal], statements=group.statements), True


def _problems(group: StatementGroup, i: int, signal: Signal) -> list[Problem]:
    """What is wrong with a group, each at its statement."""
    if group.context and group.context not in CONTEXTS[signal]:
        hint = suggest(group.context, CONTEXTS[signal])
        return [Problem((i, "context"), f"{group.context!r} is not a context of {signal.value}", hint)]
    found = []
    places = [(k, "conditions", text) for k, text in enumerate(group.conditions)]
    places += [(k, "statements", text) for k, text in enumerate(group.statements)]
    try:
        context, qualified = _context(group, signal)
    except OttlError as error:
        for k, name, text in places:
            try:
                if name == "statements":
                    parse_statement(text, infer_context([], CONTEXTS[signal], statements=[text]), qualified=True)
                else:
                    parse_condition(text, infer_context([text], CONTEXTS[signal]), qualified=True)
            except OttlError as own:
                found.append(_problem(group, i, k, name, text, own))
        first = places[0]
        return found or [_problem(group, i, first[0], first[1], first[2], error)]
    for k, name, text in places:
        parse = parse_statement if name == "statements" else parse_condition
        try:
            parse(text, context, qualified=qualified)
        except OttlError as error:
            found.append(_problem(group, i, k, name, text, error))
    return found


def _problem(group: StatementGroup, i: int, k: int, name: str, text: str, error: OttlError) -> Problem:
    path = (group.first + k,) if isinstance(group, _Texts) else (i, name, k)
    return error.problem(path, text)
