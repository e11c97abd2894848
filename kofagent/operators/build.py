"""From the `operators` option to connected operators: validation with all problems at once, ids, outputs, cycles."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import AliasChoices, ValidationError

from kofagent.operators.catalog import OPERATORS
from kofagent.operators.operator import AnyOperator

_log = logging.getLogger("kofagent.operators")
_HARMLESS = ("cache",)
"""Keys that every operator accepts with a warning: upstream's default pipelines have them where they have no effect."""


class OperatorsError(ValueError):
    """The operators are wrong; `problems` are sentences that begin with the place, as `operators[3].regex`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


def build(operators: Any, warn: Any = None) -> list[AnyOperator]:
    """Connected operators in their order; OperatorsError with all problems. `warn(sentence)` is called for harmless ones."""
    problems: list[str] = []
    if operators is None:
        return []
    if not isinstance(operators, Sequence) or isinstance(operators, str):
        raise OperatorsError(["operators: must be a list of operators"])
    built: list[AnyOperator] = []
    for i, raw in enumerate(operators):
        operator = _one(raw, f"operators[{i}]", problems, warn or _log.warning)
        if operator is not None:
            built.append(operator)
    if problems:
        raise OperatorsError(problems)
    _name(built, problems)
    _connect(built, problems)
    if problems:
        raise OperatorsError(problems)
    return built


def _one(raw: Any, place: str, problems: list[str], warn: Any) -> AnyOperator | None:
    if not isinstance(raw, Mapping):
        problems.append(f"{place}: must be a map with a type, not {type(raw).__name__}")
        return None
    kind = raw.get("type")
    if not isinstance(kind, str) or kind not in OPERATORS:
        near = difflib.get_close_matches(str(kind), OPERATORS, 1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(sorted(OPERATORS))}"
        problems.append(f"{place}.type: {'is missing' if kind is None else f'{kind!r} is not an operator'}; {hint}")
        return None
    operator = OPERATORS[kind]
    known = set()
    for name, field in operator.Config.model_fields.items():
        known.add(field.alias or name)
        if isinstance(field.validation_alias, AliasChoices):
            known.update(str(c) for c in field.validation_alias.choices)
    options = dict(raw)
    for key in [k for k in options if k not in known]:
        if key in _HARMLESS:
            warn(f"{place}.{key}: {kind} has no such option; it is ignored")
            del options[key]
    try:
        return operator(operator.Config.model_validate(options), str(options.get("id") or ""))
    except ValidationError as error:
        for item in error.errors():
            where = "".join([f"[{p}]" if isinstance(p, int) else f".{p}" for p in item["loc"]])
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "extra_forbidden":
                near = difflib.get_close_matches(str(item["loc"][-1]), known, 1)
                message = f"{kind} has no such option; " + (f"did you mean {near[0]}?" if near else "remove it")
            elif item["type"] == "missing":
                message = f"is missing; {kind} needs it"
            problems.append(f"{place}{where}: {message}")
    except ValueError as error:
        problems.append(f"{place}: {error}")
    return None


def _name(built: list[AnyOperator], problems: list[str]) -> None:
    """Gives operators without an id their type, with a number from the second on, as upstream does."""
    taken = {o.id for o in built if o.id}
    given = [o.id for o in built if o.id]
    for i, operator in enumerate(built):
        if operator.id:
            if given.count(operator.id) > 1:
                problems.append(f"operators[{i}].id: {operator.id!r} is used more than once; ids must be unique")
            continue
        kind = operator.config.type
        name, n = kind, 0
        while name in taken:
            n += 1
            name = f"{kind}{n}"
        operator.id = name
        taken.add(name)


def _connect(built: list[AnyOperator], problems: list[str]) -> None:
    by_id = {o.id: (i, o) for i, o in enumerate(built)}
    for i, operator in enumerate(built):
        following = built[i + 1] if i + 1 < len(built) else None
        bad = [name for name in operator.targets() if name not in by_id]
        for name in bad:
            near = difflib.get_close_matches(name, by_id, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"operators[{i}].output: there is no operator {name!r}{hint}")
        if not bad:
            operator.connect(lambda name: by_id[name][1], following)
    if problems:
        return
    # Depth first over the outputs: an operator met on the way to itself is a cycle.
    done: set[AnyOperator] = set()

    def visit(operator: AnyOperator, path: list[AnyOperator]) -> None:
        if operator in path:
            problems.append(
                f"operators: {' -> '.join([o.id for o in [*path[path.index(operator) :], operator]])} is a circular reference"
            )
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
    """Returns the operators as they are; ValueError (OperatorsError) with all problems otherwise. For use as a validator."""
    build(operators)
    return operators
