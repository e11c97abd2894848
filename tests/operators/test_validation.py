"""Wrong operators: every problem at once, each with its place and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel, BeforeValidator, ValidationError
from typing_extensions import Annotated  # noqa: UP035

from kofagent.config.errors import ConfigErrors
from kofagent.operators.chain import notices, validate_operators
from kofagent.operators.operator import AnyOperator
from kofagent.operators.types.router import Router
from tests.operators.kof_chain import KOF_OPERATORS


def problems(operators: Any) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        validate_operators(operators)
    return [str(problem.under(("operators",))) for problem in caught.value.errors]


def test_kof_is_valid_with_a_warning() -> None:
    assert validate_operators(KOF_OPERATORS) is KOF_OPERATORS
    assert validate_operators(None) is None and validate_operators([]) == []
    assert notices(["noop", {"type": "no_such", "cache": {}}]) == []
    assert list(map(str, notices(KOF_OPERATORS))) == ["[11].cache: has no effect in remove; remove it"]


def test_all_problems_at_once() -> None:
    assert problems(
        [
            {"type": "regex_parsr", "regex": "x"},
            {"type": "regex_parser", "regex": "(?P<a>"},
            {"type": "regex_parser", "regex": "a"},
            {"type": "move", "from": "attributes", "too": "body"},
            {"type": "add", "field": "log_level", "value": 1},
            "noop",
            {},
            {"type": "filter", "expr": "body ==", "drop_ratio": 2},
            {"type": "noop", "on_error": "ignore"},
            {"type": "severity_parser", "parse_from": "body", "mapping": {"info": [{"min": 1}]}},
            {"type": "time_parser", "parse_from": "body", "layout": "%Q"},
        ]
    ) == [
        "operators[0].type: unknown operator 'regex_parsr'; did you mean 'regex_parser'?",
        "operators[1].regex: '(?P<a>' is not a regular expression (RE2): missing ): (?P<a>",
        "operators[2].regex: the pattern has no named group; write (?P<name>...) around what is to become a field",
        "operators[3].from: 'attributes' as a whole cannot be used here; name a field of it, such as attributes.name",
        "operators[3].to: is required; set it",
        "operators[3].too: unknown key; did you mean 'to'?",
        "operators[4].field: 'log_level': a field begins with body, attributes or resource; did you mean body.log_level or "
        "attributes.log_level?",
        "operators[5]: must be a map with a type, not str",
        "operators[6].type: is required; use one of "
        + ", ".join(sorted(__import__("kofagent.operators.catalog", fromlist=["OPERATORS"]).OPERATORS)),
        "operators[7].expr: expression 'body ==': unexpected end at column 8",
        "operators[7].drop_ratio: must be at most 1.0, not 2",
        "operators[8].on_error: 'ignore' is not one of the allowed values; use one of drop, drop_quiet, send, send_quiet",
        "operators[9]: mapping: {'min': 1} is not a value; write a string, an integer, 2xx to 5xx, or a range with min and max",
        "operators[10]: layout '%Q': %Q is not a directive",
    ]


@pytest.mark.parametrize(
    "operators, want",
    [
        (
            [{"type": "noop", "id": "a"}, {"type": "noop", "id": "a"}],
            "operators[0].id: 'a' is used more than once; ids must be unique",
        ),
        (
            [{"type": "noop", "output": "sevrity"}, {"type": "noop", "id": "severity"}],
            "operators[0].output: there is no operator 'sevrity'; did you mean 'severity'?",
        ),
        ([{"type": "noop", "id": "a"}, {"type": "noop", "output": "a"}], "operators: circular reference: a -> noop -> a"),
        ("noop", "operators: must be a list of operators"),
        ([{"type": "recombine", "combine_field": "body"}], "set exactly one of is_first_entry and is_last_entry"),
        ([{"type": "json_parser", "parse_to": "body", "body": "body.x"}], "body cannot be set when parse_to is body"),
        ([{"type": "key_value_parser", "delimiter": " "}], "delimiter and pair_delimiter are the same"),
        ([{"type": "syslog_parser", "protocol": "rfc9999"}], "operators[0].protocol"),
        ([{"type": "add", "field": "body", "value": "EXPR(1 +)"}], "unexpected end at column 4"),
        ([{"type": "noop", "if": 'body matches "("'}], "is not a regular expression"),
        ([{"type": "time_parser", "parse_from": "body", "layout": "%Y", "location": "Mars/Base"}], "Mars/Base"),
    ],
)
def test_one_problem(operators: Any, want: str) -> None:
    assert any(want in p for p in problems(operators)), problems(operators)


def test_as_a_validator_of_an_option() -> None:
    class Options(BaseModel):
        operators: Annotated[list[dict[str, Any]], BeforeValidator(validate_operators)] = []

    with pytest.raises(ValidationError, match=r"\[0\].type: unknown operator 'x'"):
        Options.model_validate({"operators": [{"type": "x"}]})


def test_same_types_get_numbers_as_upstream() -> None:
    from kofagent.operators.build import build

    assert [o.id for o in build([{"type": "noop"}, {"type": "noop"}, {"type": "noop", "id": "noop2"}, {"type": "noop"}])] == [
        "noop",
        "noop1",
        "noop2",
        "noop3",
    ]


def test_branches_that_join_again_are_walked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    depth, asked = 20, 0
    operators: list[dict[str, Any]] = []
    for i in range(depth):
        routes = [{"expr": f"attributes.a == '{side}'", "output": [f"{side}{i}"]} for side in "ab"]
        operators.append({"type": "router", "id": f"r{i}", "routes": routes})
        operators += [{"type": "noop", "id": f"{side}{i}", "output": f"r{i + 1}"} for side in "ab"]
    operators.append({"type": "noop", "id": f"r{depth}"})

    class Counted(list[Any]):
        """The outputs of a router; fails while a million ways are walked, not after."""

        def __iter__(self) -> Iterator[Any]:
            nonlocal asked
            asked += 1
            assert asked <= 4 * depth, "every way is walked, not every operator once"
            return super().__iter__()

    connect = Router.connect

    def counting(self: Router, find: Callable[[str], AnyOperator], following: AnyOperator | None) -> None:
        connect(self, find, following)
        self.outputs = Counted(self.outputs)

    monkeypatch.setattr(Router, "connect", counting)
    assert validate_operators(operators) is operators
    assert asked >= depth
