"""The line that an error in an expression shows, and the caret below it, whatever way YAML writes the string."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kofagent.component import registry
from kofagent.config.errors import ConfigErrors, Place, Problem, Spot
from kofagent.config.excerpt import in_files
from kofagent.config.load import load_config

_AROUND = """\
receivers: {otlp: {protocols: {http: {}}}}
exporters: {nop: {}}
service: {pipelines: {logs: {receivers: [otlp], processors: [transform], exporters: [nop]}}}
processors:
  transform:
    log_statements:
"""


def _shown(tmp_path: Path, statements: str, **environ: str) -> list[str]:
    file = tmp_path / "c.yaml"
    file.write_text(_AROUND + statements)
    with pytest.raises(ConfigErrors) as raised:
        load_config([str(file)], registry, environ)
    return str(raised.value).replace(f"{tmp_path}/", "").split("\n")


@pytest.mark.parametrize(
    ("written", "line", "shown", "below"),
    [
        ('- set(log.attributes["a"], log.boby)', 7, '- set(log.attributes["a"], log.boby)', "boby"),
        ("""- 'set(log.attributes["it''s"], log.boby)'""", 7, """- 'set(log.attributes["it''s"], log.boby)'""", "boby"),
        (r"""- "set(log.attributes[\"\u00e4\"],\n log.boby)" """, 7, r"""- "set(log.attributes[\"\u00e4\"],\n log.boby)" """, "boby"),
        ('- |\n        set(log.body, "a")\n\n          where log.boby == 1', 10, "where log.boby == 1", "boby"),
        ('- >-\n        set(log.body,\n        Sha256("a")) where log.flags == 1', 9, 'Sha256("a")) where log.flags == 1', "Sha256"),
        ("- set(log.body,\n          log.boby)", 8, "log.boby)", "boby"),
        ('- {statements: [\'set(log.body, "$$$$1")\', "set(log.body, log.boby)"]}', 7, None, "boby"),
        ("""- set(log.attributes["$$1 $$"], log.boby)""", 7, None, "boby"),
        ("""- "set(log.attributes[\\"a\\"], \\\n          log.boby)" """, 8, 'log.boby)"', "boby"),
        ('- set(log.body, log.flags) where log.flags', 7, None, ""),
    ],
)  # fmt: skip
def test_the_caret_is_below_what_is_wrong(tmp_path: Path, written: str, line: int, shown: str | None, below: str) -> None:
    message, source, caret = _shown(tmp_path, f"      {written}\n")
    assert message.startswith(f"c.yaml:{line}: processors.transform.log_statements[0]")
    assert source.strip() == (shown or written).strip()
    assert source[caret.index("^") :].startswith(below)
    assert below or len(source) == caret.index("^")


def test_every_statement_is_told_of(tmp_path: Path) -> None:
    lines = _shown(tmp_path, '      - set(log.boby, 1)\n      - set(log.body, 1)\n      - st(log.body, "a")\n')
    assert lines == [
        "c.yaml:7: processors.transform.log_statements[0]: unknown path log.boby in the log context; did you mean 'log.body'?",
        "    - set(log.boby, 1)",
        "              ^",
        "c.yaml:9: processors.transform.log_statements[2]: unknown editor st; did you mean 'set'?",
        '    - st(log.body, "a")',
        "      ^",
    ]


def test_what_comes_from_the_environment_is_not_shown(tmp_path: Path) -> None:
    (message,) = _shown(tmp_path, '      - set(log.body, "${env:S3CRET}") where log.flgs == 1\n', S3CRET="CANARY")
    assert "CANARY" not in message


def test_a_string_that_is_not_found_in_its_file_is_shown_itself(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: b\n")
    problem = Problem(("a",), "wrong", place=Place(str(tmp_path / "c.yaml"), 1), spot=Spot("x\ncd", 3))
    gone = Problem(("a",), "wrong", place=Place(str(tmp_path / "gone.yaml"), 1), spot=Spot("x\ncd", 3))
    for found in in_files([problem, gone]):
        assert str(found).split("\n")[1:] == ["    cd", "     ^"]


def test_a_long_line_is_cut_around_the_caret() -> None:
    for at in (0, 5, 500, 999):
        text = "." * at + "X" + "." * (999 - at)
        line, caret = str(Spot(text, at)).split("\n")
        assert len(line) < 140
        assert line[caret.index("^")] == "X"


@given(st.text(st.sampled_from("ab$ \n\t\"'\\\u00e4:#,[-\u2028\U0001f600"), min_size=1, max_size=30), st.data())
def test_any_string_in_any_style(tmp_path_factory: pytest.TempPathFactory, text: str, data: st.DataObject) -> None:
    style = data.draw(st.sampled_from([None, '"', "'", "|", ">"]))
    at = data.draw(st.integers(0, len(text) - 1))
    if text[at].isspace() or "\\" in text[at] or text[at] in "\"'":
        return
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(yaml.dump({"k": [text]}, default_style=style, width=12, allow_unicode=data.draw(st.booleans())))
    place = next(e.start_mark.line + 1 for e in yaml.parse(file.read_text()) if isinstance(e, yaml.ScalarEvent) and e.value == text)
    (found,) = in_files([Problem((), "wrong", place=Place(str(file), place), spot=Spot(text, at))])
    assert found.spot is not None
    pointed = found.spot.text[found.spot.offset]
    assert pointed == text[at] or pointed == "\\"
