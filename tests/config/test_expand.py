"""References: the collector's rules for environment, files and escapes; Secrets; no value in any message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kofagent.config.expand import expand
from kofagent.config.source import parse

ENV = {
    "HOST": "h1",
    "PORT": "4317",
    "EMPTY": "",
    "LIST": "[a, b]",
    "MAP": "{x: 1}",
    "NESTED": "${env:HOST}",
    "NAME": "HOST",
    "BOOL": "true",
    "DOLLAR": "a$$b",
    "LOOP": "${env:LOOP}",
    "TEXT": "a: b: c",
    "QUOTED": "'007'",
    "COMMENT": "#no",
    "HALF": "a #b",
    "NULL": "null",
    "TAG": "!x y",
    "OPEN": "[a",
    "STAR": "*a",
}


def value(text: str, **environ: str) -> Any:
    node, _ = parse("v: 0\n", "f.yaml")
    node.value["v"].value = text
    done = expand(node, {**ENV, **environ})
    assert not done.errors, done.errors
    return done.node.plain()["v"]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("${env:HOST}", "h1"),
        ("${HOST}", "h1"),
        ("${env:HOST}:${env:PORT}", "h1:4317"),
        ("${env:PORT}", 4317),
        ("p${env:PORT}", "p4317"),
        ("${env:BOOL}", True),
        ("${env:LIST}", ["a", "b"]),
        ("${env:MAP}", {"x": 1}),
        ("${env:NONE:-d}", "d"),
        ("${env:NONE:-}", ""),
        ("${env:HOST:-d}", "h1"),
        ("${env:NONE:-5}", 5),
        ("${env:NONE:-a:-b}", "a:-b"),
        ("${env:NESTED}", "h1"),
        ("${env:${env:NAME}}", "h1"),
        ("$$", "$"),
        ("$${env:HOST}", "${env:HOST}"),
        ("$$${env:HOST}", "$h1"),
        ("$$$${env:HOST}", "$${env:HOST}"),
        ("a$b", "a$b"),
        ("${env:DOLLAR}", "a$b"),
        ("${yaml:[1, 2]}", [1, 2]),
        ("${env:TEXT}", "a: b: c"),
        ("${env:QUOTED}", "'007'"),
        ("${", "${"),
        ("}${", "}${"),
        ("${}", "${}"),
        ("${env:COMMENT}", "#no"),
        ("${env:HALF}", "a #b"),
        ("${env:EMPTY}", ""),
        ("${env:NULL}", None),
        ("${env:TAG}", "!x y"),
        ("${env:OPEN}", "[a"),
        ("${env:STAR}", "*a"),
        # relabel replacements
        ("$1", "$1"),
        ("$$1", "$1"),
        ("$${1}", "${1}"),
        ("/nodes/$${1}/proxy", "/nodes/${1}/proxy"),
        ("$${1}:${env:PORT}", "${1}:4317"),
        ("$1-${HOST}-$$2", "$1-h1-$2"),
    ],
)
def test_references(text: str, want: object) -> None:
    assert value(text) == want


def problems(text: str, environ: dict[str, str] | None = None) -> tuple[list[str], list[str]]:
    node, found = parse(text, "f.yaml")
    assert not found
    done = expand(node, ENV if environ is None else environ)
    return [str(e) for e in done.errors], [str(w) for w in done.warnings]


def test_unset_variables_are_warnings_as_upstream() -> None:
    errors, warnings = problems("a: 1\nb: ${env:NOPE}\nc: x${NOPE2}y\n")
    assert not errors
    assert warnings == [
        "f.yaml:2: b: the environment variable NOPE is not set and treated as empty; set it, or write ${env:NOPE:-default}",
        "f.yaml:3: c: the environment variable NOPE2 is not set and treated as empty; set it, or write ${env:NOPE2:-default}",
    ]


def test_what_is_unset_or_empty_hides_nothing_around_it() -> None:
    tree, _ = parse("a: http://${env:UNSET}:${env:EMPTY}\nb: http://${env:SET}:${env:EMPTY}", "f.yaml")
    done = expand(tree, {"EMPTY": "", "SET": "s3cret"}).node.value
    assert [(done[key].value, done[key].hidden) for key in "ab"] == [("http://:", False), ("http://s3cret:", True)]


def test_all_errors_with_line_and_no_value() -> None:
    errors, _ = problems(
        "a: ${env:A-B}\nb: [1, '${ftp:x}']\nc: ${env:LOOP}\nd: ${file:/none/such}\ne: ${secret:name}\nf: ${HOST:-x}\n"
    )
    assert len(errors) == 6
    assert errors[0].startswith("f.yaml:1: a: 'A-B' is not the name of an environment variable")
    assert errors[1].startswith("f.yaml:2: b[1]: unknown kind of reference 'ftp'")
    assert "circular reference" in errors[2]
    assert errors[3] == "f.yaml:4: d: the file '/none/such' cannot be read: No such file or directory; check the path"
    assert errors[4] == "f.yaml:5: e: a Secret reference needs a name and a key; write ${secret:NAME/KEY}"
    assert errors[5] == "f.yaml:6: f: ${HOST:-...} needs a scheme for a default; write ${env:HOST:-default}"


def test_files(tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text("x: ${env:HOST}\ny: [1]\n")
    (tmp_path / "word").write_text("secret-word")
    (tmp_path / "self.yaml").write_text(f"again: ${{file:{tmp_path}/self.yaml}}\n")
    node, _ = parse(f"a: ${{file:{tmp_path}/part.yaml}}\nb: ${{file:{tmp_path}/word}}\n", "f.yaml")
    done = expand(node, ENV)
    assert done.node.plain() == {"a": {"x": "h1", "y": [1]}, "b": "secret-word"}
    assert done.node.get("a", "y").origin.line == 2 and done.node.get("a", "y", 0).hidden
    (tmp_path / "bad.yaml").write_text("a: 1\nb: [\n")
    node, _ = parse(f"a: ${{file:{tmp_path}/bad.yaml}}\n", "f.yaml")
    assert [e.place for e in expand(node, ENV).errors] == [(f"{tmp_path}/bad.yaml", 3)]
    node, _ = parse(f"a: ${{file:{tmp_path}/self.yaml}}\n", "f.yaml")
    assert [e.message for e in expand(node, ENV).errors] == ["the file includes itself"]


def test_secrets_from_directory_then_environment(tmp_path: Path) -> None:
    (tmp_path / "login").mkdir()
    (tmp_path / "login" / "password").write_text("p$$w${env:HOST}\n")
    environ = {"KOFAGENT_SECRETS_DIR": str(tmp_path), "LOGIN_USER_NAME": "007", "LOGIN_PASSWORD": "not this"}
    node, _ = parse(
        "u: ${secret:login/user-name}\np: ${secret:login/password}\nboth: ${secret:login/user-name}:${secret:login/password}\n", "f"
    )
    done = expand(node, environ)
    assert done.node.plain() == {"u": "007", "p": "p$$w${env:HOST}", "both": "007:p$$w${env:HOST}"}
    assert all(done.node.get(k).hidden for k in ("u", "p", "both"))


def test_missing_secrets_are_all_named_with_their_places(tmp_path: Path) -> None:
    text = "u: ${secret:login/user}\np: ${secret:login/password}\n"
    errors, _ = problems(text, {"KOFAGENT_SECRETS_DIR": str(tmp_path)})
    assert errors == [
        f"f.yaml:{line}: {key}: the Secret 'login' with key '{name}' was not found; looked for {tmp_path}/login/{name} and "
        f"the environment variable LOGIN_{name.upper()}; mount the Secret there "
        f"(KOFAGENT_SECRETS_DIR moves the directory), or set the variable"
        for line, key, name in ((1, "u", "user"), (2, "p", "password"))
    ]
    node, _ = parse(text, "f.yaml")
    lenient = expand(node, {}, need_secrets=False)
    assert not lenient.errors and len(lenient.warnings) == 2


@pytest.mark.parametrize("reference", ["../x/y", "a/../../b", "/a", "a/", "./b", "a/b/c"])
def test_a_secret_reference_cannot_leave_its_directory(reference: str, tmp_path: Path) -> None:
    errors, _ = problems(f"a: ${{secret:{reference}}}\n", {"KOFAGENT_SECRETS_DIR": str(tmp_path)})
    assert len(errors) == 1 and "needs a name and a key" in errors[0]


def test_lines_and_structure_survive() -> None:
    node, _ = parse("a:\n  - b: ${env:HOST}\n    c: plain\n", "f.yaml")
    done = expand(node, ENV).node
    assert done.get("a", 0, "b").origin.line == 2 and done.get("a", 0, "b").hidden
    assert not done.get("a", 0, "c").hidden
    assert node.get("a", 0, "b").value == "${env:HOST}"
