"""What every operator promises, checked for each file in `kofagent/operators/types` from the moment it is there.

A compiled chain with the operator makes the same records, counts and messages as the plain one, whatever its options, the lines and
the operators around it. An operator that declares nothing runs for every entry; one that declares too much does so, too.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kofagent.operators import build as build_module
from kofagent.operators import compile as compile_module
from kofagent.operators.access import Access
from kofagent.operators.catalog import OPERATORS
from kofagent.operators.compile import Stream
from kofagent.operators.emit import Names
from kofagent.operators.entry import Entry
from kofagent.operators.operator import Run, Transformer
from kofagent.operators.options import FieldConfig, TransformerConfig
from tests.operators.configurations import CONDITIONS, EXAMPLES, configurations
from tests.operators.streams import PATH, chunks, hostile, outcome, run
from tests.support.examples import at_most

TYPES = sorted(OPERATORS)
END = {"type": "noop", "id": "end"}
first = st.sampled_from(
    [
        [],
        [],
        [{"type": "container"}],
        [{"type": "container", "format": "crio", "add_metadata_from_filepath": False, "on_error": "send_quiet"}],
    ]
)
before = st.sampled_from(
    [
        [],
        [{"type": "json_parser", "parse_to": "body", "on_error": "send_quiet"}],
        [{"type": "json_parser", "on_error": "send_quiet"}],
        [{"type": "json_array_parser", "parse_to": "attributes.list", "on_error": "send_quiet"}],
        [{"type": "regex_parser", "id": "level", "regex": "(?P<level>(?i)error|info|[a-z0-9]+)", "on_error": "send_quiet"}],
        [{"type": "add", "id": "level", "field": "attributes.level", "value": "2026-11-21T10:44:28"}],
        [{"type": "copy", "from": "body", "to": "attributes.level"}],
    ]
)
any_lines = st.one_of(chunks, hostile)


def same(operators: list[dict[str, Any]], lines: list[bytes], path: str = PATH) -> None:
    """The compiled chain does what the plain one does, in the shape that it chooses and in the one where entries are made.

    What operators draw by chance is the same in all of them.
    """
    random.seed(1)
    plain = outcome(operators, lines, compiled=False, path=path)
    random.seed(1)
    assert outcome(operators, lines, compiled=True, path=path) == plain
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compile_module, "lift_operators", lambda operators: None)
        random.seed(1)
        assert outcome(operators, lines, compiled=True, path=path) == plain


@pytest.mark.parametrize("type", TYPES)
def test_compiled_is_plain(type: str) -> None:
    @settings(max_examples=at_most(30), deadline=None)
    @given(data=st.data(), lines=any_lines, path=st.sampled_from([PATH, PATH, "/var/log/x.log"]))
    def check(data: st.DataObject, lines: list[bytes], path: str) -> None:
        one = data.draw(configurations(type))
        other = data.draw(st.lists(st.sampled_from(TYPES).flatmap(configurations), max_size=2))
        same([*data.draw(first), *data.draw(before), one, *other, END], lines, path)

    check()


PLAIN = [
    b"error x\ninfo 12\n",
    b"error x\ninfo 12\nerror y\n" * 20,
    b"2026-11-21T10:44:28.123456789Z stdout F error x\n" * 2,
    b"2026-11-21T10:44:28.123456789+01:00 stderr F info 12\n" * 2,
    b'{"log":"error x","stream":"stdout","time":"2026-11-21T10:44:28Z"}\n' * 2,
]


HOSTILE = [
    [b"\xff\xfe\x00\n\n \n", b'{"a":"\\ud800","k":1}\n[1,{"a":[]},null]\n'],
    [
        b"<13>1 2026-11-21T10:44:28Z h a p m - hi\na=b c\n1,2\n",
        b"2026-11-21T10:44:28.123456789Z stdout P part\n",
        b"no newline \xc3",
    ],
]


@pytest.mark.parametrize("type", TYPES)
def test_what_is_declared_makes_it_fast(type: str) -> None:
    """An operator that is taken at its word does not look at the stand-in: the chain keeps its fast shape."""

    @settings(max_examples=at_most(30), deadline=None)
    @given(one=configurations(type))
    def check(one: dict[str, Any]) -> None:
        keeps_its_shape(one)

    check()


def keeps_its_shape(one: dict[str, Any]) -> None:
    _, stream = run([one, END], PLAIN, compiled=True)
    assert isinstance(stream, Stream)
    assert stream.shape == ("entries" if stream.plan.lifts is None else "outcomes"), (
        "it declares less than it reads: widen `access`, or remove it"
    )


@pytest.mark.parametrize("one", [{"type": type, **options} for type, examples in EXAMPLES.items() for options in examples], ids=str)
def test_every_example(one: dict[str, Any]) -> None:
    keeps_its_shape(one)
    for lines in (PLAIN, *HOSTILE):
        same([one, END], lines)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition(condition: str) -> None:
    level = {"type": "regex_parser", "regex": "(?P<level>error|[0-9]+)", "on_error": "send_quiet"}
    same([level, {"type": "add", "field": "attributes.yes", "value": 1, "if": condition}, END], [*PLAIN, b"1 x\n1\n2\nerror\n"])


def test_the_time_of_evaluation_is_that_of_each_entry() -> None:
    outcome([{"type": "add", "field": "attributes.now", "value": "EXPR(now())"}], PLAIN, compiled=True, shape="entries")


@pytest.mark.parametrize("output", ["end", ["next", "end"], ["next", "next"]])
def test_a_container_may_hand_on_to_others_than_the_next(output: str | list[str]) -> None:
    marked = {"type": "add", "id": "next", "field": "attributes.seen", "value": "x"}
    same([{"type": "container", "output": output}, marked, END], PLAIN)


def test_copies_for_several_outputs_keep_it_fast() -> None:
    operators: list[dict[str, Any]] = [
        {"type": "container"},
        {"type": "regex_parser", "regex": "(?P<level>error|info)", "severity": {"parse_from": "attributes.level"}},
        {"type": "noop", "output": ["end", "end"]},
        END,
    ]
    assert outcome(operators, PLAIN[2:3], compiled=True, shape="outcomes") == outcome(operators, PLAIN[2:3], compiled=False)


class Undeclared(Transformer[TransformerConfig]):
    """What a stranger writes first."""

    def transform(self, entry: Entry) -> None:
        entry.attributes["len"] = len(str(entry.body))


class Liar(Transformer[TransformerConfig]):
    """Says that it keeps to its options."""

    def access(self) -> Access | None:
        return self.by_options()


class ReadsBody(Liar):
    def transform(self, entry: Entry) -> None:
        entry.attributes["len"] = len(str(entry.body))


class WritesBody(Liar):
    def transform(self, entry: Entry) -> None:
        entry.body = "mine"


class ReadsTime(Liar):
    def transform(self, entry: Entry) -> None:
        entry.attributes["late"] = (entry.timestamp or 0) % 2


class WritesTime(Liar):
    def transform(self, entry: Entry) -> None:
        entry.timestamp = 5


class ReadsObserved(Liar):
    def transform(self, entry: Entry) -> None:
        entry.attributes["observed"] = entry.observed


class WritesObserved(Liar):
    def transform(self, entry: Entry) -> None:
        entry.observed = 5


class Counts(Liar):
    def process(self, entry: Entry, run: Run) -> None:
        state = run.state(self)
        state["n"] = state.get("n", 0) + 1
        entry.attributes["n"] = state["n"]
        self.write(entry, run)


class DropsByBody(Liar):
    def process(self, entry: Entry, run: Run) -> None:
        if "o" in str(entry.body):
            run.filtered(f"operator/{self.id}", 1)
        else:
            self.write(entry, run)


LIARS = [ReadsBody, WritesBody, ReadsTime, WritesTime, ReadsObserved, WritesObserved, Counts, DropsByBody]


@pytest.mark.parametrize("operator", [Undeclared, *LIARS])
@pytest.mark.parametrize(
    "around",
    [[], [{"type": "container"}], [{"type": "container", "format": "docker"}], [{"type": "noop", "output": ["it", "end"]}]],
)
def test_who_does_not_keep_the_promise_runs_for_every_entry(
    operator: type[Transformer[Any]], around: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "OPERATORS", {**OPERATORS, "stranger": operator})

    @settings(max_examples=at_most(30), deadline=None)
    @given(lines=any_lines)
    def check(lines: list[bytes]) -> None:
        same([*around, {"type": "stranger", "id": "it"}, END], lines)

    check()


def test_the_length_of_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial that found the flaw: lines of 1, 3 and 6 characters had the length of the stand-in."""
    for operator in (Undeclared, ReadsBody):
        monkeypatch.setattr(build_module, "OPERATORS", {**OPERATORS, "length": operator})
        for lines in ([b"a\nbbb\ncccccc\n"], [b"a\n", b"bbb\ncccccc\n"]):
            records = outcome([{"type": "length"}], lines, compiled=True, shape="entries").records
            assert [dict(r[7])["len"] for r in records] == [f"int_value: {n}\n" for n in (1, 3, 6)]


class Breaks(Transformer[TransformerConfig]):
    """Has a defect that some lines meet."""

    def transform(self, entry: Entry) -> None:
        entry.attributes["len"] = len(str(entry.body))
        if "r" in str(entry.body):
            raise TypeError("a defect")


class BreaksAndLies(Breaks):
    def access(self) -> Access | None:
        return self.by_options()


class BreaksByWords(Liar):
    """Its defect depends on what it declares."""

    def transform(self, entry: Entry) -> None:
        if entry.attributes.get("level") != "info":
            raise TypeError("a defect")


class BreaksOutside(Liar):
    """Its defect is not where `on_error` is obeyed."""

    def process(self, entry: Entry, run: Run) -> None:
        if entry.attributes.get("level") != "info":
            raise TypeError("a defect")
        self.write(entry, run)


LEVEL = {"type": "regex_parser", "id": "level", "regex": "(?P<level>info|error)", "on_error": "send_quiet"}


@pytest.mark.parametrize("operator", [Breaks, BreaksAndLies, BreaksByWords, BreaksOutside])
@pytest.mark.parametrize("mode", ["send", "send_quiet", "drop", "drop_quiet"])
@pytest.mark.parametrize("lines", [[b"info\nerror\nwarn\ninfo\n"], [b"info\n", b"error\nwarn\n", b"info\n"]])
def test_a_defect_costs_the_entries_that_meet_it(
    operator: type[Transformer[Any]], mode: str, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "OPERATORS", {**OPERATORS, "stranger": operator})
    operators = [LEVEL, {"type": "stranger", "id": "it", "on_error": mode}, END]
    same(operators, lines)
    result = outcome(operators, lines, compiled=True, shape="entries")
    inside = operator is not BreaksOutside
    sent = inside and mode.startswith("send")
    assert len(result.records) == (4 if sent else 2)
    assert result.counts == ({} if sent else {"dropped operator/it" if inside else "dropped internal error": 2})
    assert [text for text in result.said if "internal error: TypeError" in text], "a defect is logged in quiet modes, too"


class OwnProcess(Transformer[FieldConfig]):
    """Inherits `emit` and has a `process`: the compiled chain calls it."""

    def process(self, entry: Entry, run: Run) -> None:
        entry.attributes["seen"] = True
        self.write(entry, run)


class OwnStatements(Transformer[FieldConfig]):
    """Writes its own source, with a value of the user that looks like source."""

    def transform(self, entry: Entry) -> None:
        entry.attributes[str(self.config.field)] = 1

    def statements(self, names: Names) -> list[str]:
        return [f"entry.attributes[{names.bind('k', str(self.config.field))}] = 1"]


@pytest.mark.parametrize("operator", [OwnProcess, OwnStatements])
def test_how_an_operator_is_compiled_is_its_own_word(operator: type[Transformer[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "OPERATORS", {**OPERATORS, "stranger": operator})

    @settings(max_examples=at_most(30), deadline=None)
    @given(lines=any_lines, rest=st.lists(st.sampled_from(TYPES).flatmap(configurations), max_size=2))
    def check(lines: list[bytes], rest: list[dict[str, Any]]) -> None:
        stranger = {"type": "stranger", "field": "attributes['\"]; raise SystemExit #']", "if": 'body != "x"'}
        same([stranger, *rest, END], lines)

    check()


@given(one=configurations("stranger", OwnProcess))
def test_a_new_operator_needs_no_example(one: dict[str, Any]) -> None:
    assert set(one) >= {"type", "field"}
