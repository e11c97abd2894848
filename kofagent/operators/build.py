"""From the `operators` option to connected operators: validation with all problems at once, ids, outputs, cycles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from kofagent.config.base import spellings
from kofagent.config.errors import ConfigErrors, Path, Problem, suggest
from kofagent.config.tree import Origin, node_of
from kofagent.config.validation_errors import problems_of
from kofagent.operators.catalog import OPERATORS
from kofagent.operators.operator import AnyOperator

_HARMLESS = ("cache",)
"""Keys that every operator accepts with a warning: upstream's default pipelines have them where they have no effect."""


def build(operators: Any) -> list[AnyOperator]:
    """Connected operators in their order; ConfigErrors with all problems, their paths below the list."""
    problems: list[Problem] = []
    if operators is None:
        return []
    if not isinstance(operators, Sequence) or isinstance(operators, str):
        raise ConfigErrors([Problem((), "must be a list of operators")])
    built: list[AnyOperator] = []
    for i, raw in enumerate(operators):
        operator = _one(raw, (i,), problems)
        if operator is not None:
            built.append(operator)
    if problems:
        raise ConfigErrors(problems)
    _name(built, problems)
    _connect(built, problems)
    if problems:
        raise ConfigErrors(problems)
    return built


def _one(raw: Any, path: Path, problems: list[Problem]) -> AnyOperator | None:
    if not isinstance(raw, Mapping):
        problems.append(Problem(path, f"must be a map with a type, not {type(raw).__name__}"))
        return None
    kind = raw.get("type")
    if kind is None:
        problems.append(Problem((*path, "type"), "is required", suggest("", OPERATORS, limit=40)))
        return None
    if not isinstance(kind, str) or kind not in OPERATORS:
        problems.append(Problem((*path, "type"), f"unknown operator {kind!r}", suggest(str(kind), OPERATORS, limit=40)))
        return None
    operator = OPERATORS[kind]
    without_effect = _without_effect(raw, operator)
    options = {key: value for key, value in raw.items() if key not in without_effect}
    try:
        return operator(operator.Config.model_validate(options), str(options.get("id") or ""))
    except ValidationError as error:
        problems += [p.under(path) for p in problems_of(error, operator.Config, node_of(options, Origin()))]
    except ValueError as error:
        problems.append(Problem(path, str(error)))
    return None


def _without_effect(raw: Mapping[str, Any], operator: type[AnyOperator]) -> list[str]:
    """The keys of an operator that it does not know and that do no harm."""
    known = {key for name, field in operator.Config.model_fields.items() for key in spellings(name, field)}
    return [key for key in raw if key in _HARMLESS and key not in known]


def notices(operators: Sequence[Any]) -> list[Problem]:
    """Warnings about operators that are valid: keys without effect. Paths are below the list."""
    return [
        Problem((i, key), f"has no effect in {raw['type']}", "remove it", warning=True)
        for i, raw in enumerate(operators)
        if isinstance(raw, Mapping) and raw.get("type") in OPERATORS
        for key in _without_effect(raw, OPERATORS[raw["type"]])
    ]


def _name(built: list[AnyOperator], problems: list[Problem]) -> None:
    """Gives operators without an id their type, with a number from the second on, as upstream does."""
    taken = {o.id for o in built if o.id}
    given = [o.id for o in built if o.id]
    for i, operator in enumerate(built):
        if operator.id:
            if given.count(operator.id) > 1:
                problems.append(Problem((i, "id"), f"{operator.id!r} is used more than once", "ids must be unique"))
            continue
        kind = operator.config.type
        name, n = kind, 0
        while name in taken:
            n += 1
            name = f"{kind}{n}"
        operator.id = name
        taken.add(name)


def _connect(built: list[AnyOperator], problems: list[Problem]) -> None:
    by_id = {o.id: (i, o) for i, o in enumerate(built)}
    for i, operator in enumerate(built):
        following = built[i + 1] if i + 1 < len(built) else None
        bad = [name for name in operator.targets() if name not in by_id]
        for name in bad:
            problems.append(Problem((i, "output"), f"there is no operator {name!r}", suggest(name, by_id, limit=0)))
        if not bad:
            operator.connect(lambda name: by_id[name][1], following)
    if problems:
        return
    # Depth first over the outputs: an operator met on the way to itself is a cycle.
    done: set[AnyOperator] = set()

    def visit(operator: AnyOperator, path: list[AnyOperator]) -> None:
        if operator in path:
            circle = " -> ".join(o.id for o in [*path[path.index(operator) :], operator])
            problems.append(Problem((), f"circular reference: {circle}"))
            return
        if operator in done:
            return
        for output in operator.outputs:
            if output is not None:
                visit(output, [*path, operator])
        done.add(operator)

    for operator in built:
        visit(operator, [])


def validate_operators(operators: Any) -> Any:
    """Returns the operators as they are; ConfigErrors with all problems otherwise. For use as a validator."""
    build(operators)
    return operators
