"""The tasks of the project: `nox -l` lists them, `nox -s NAME` runs one, what follows `--` goes to the command it runs.

Tasks run in the environment of README's test command (`.venv`); only `test-3.X` and `lock` make their own.
"""

from __future__ import annotations

import itertools
import os
import sys
import tomllib
from pathlib import Path

import nox
from nox.command import CommandFailed

ROOT = Path(__file__).parent
VENV = ROOT / ".venv" / "bin" / "python"
PYTHON = str(VENV if VENV.exists() else sys.executable)
TEST_LOCK = ROOT / "requirements-test.lock"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]

nox.needs_version = ">=2025.10"
nox.options.sessions = ["check"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False  # skipped, and the summary says so; CI too

here = nox.session(python=False)


def run(session: nox.Session, *arguments: str, **env: str) -> None:
    """Runs a module of the project's environment."""
    session.run(PYTHON, "-m", *arguments, env=env, external=True)


@nox.session(python=PYTHONS)
def test(session: nox.Session) -> None:
    """The test suite on one Python, in an environment made for it; skipped where that Python is not installed."""
    session.install("-q", "-e", ".[test]", env={"PIP_CONSTRAINT": str(TEST_LOCK)})
    session.run("python", "-m", "pytest", *session.posargs)


@here
def check(session: nox.Session) -> None:
    """The inner loop: linters, then the tests that are not slow, with few examples a property (or the paths given)."""
    lint(session)
    run(session, "pytest", "-m", "not slow", *session.posargs, HYPOTHESIS_PROFILE="dev")


RULES = [
    "tests/test_architecture.py",
    "tests/test_contract.py",
    "tests/test_options_are_read.py",
    "tests/test_dependencies.py",
    "tests/test_docs.py",
    "tests/telemetry/test_reasons.py",
    "tests/memory/test_hand_made.py",
]


@here
def rules(session: nox.Session) -> None:
    """The rules that hold for everything that is added: imports, options, reasons, memos, dependencies, pages."""
    run(session, "pytest", *RULES, HYPOTHESIS_PROFILE="dev")


@here
def lint(session: nox.Session) -> None:
    """ruff's rules and format, and the types of product, tests and benchmarks."""
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")
    run(session, "mypy")


@here
def docs(session: nox.Session) -> None:
    """Regenerates the generated pages: the reference of components, both schemas, the picture of the rooms."""
    run(session, "kofagent", "components", "--docs", "docs/components")
    for option, file in {"--schema": "docs/config.schema.json", "--values-schema": "helm/kofagent/values.schema.json"}.items():
        with (ROOT / file).open("w") as out:
            session.run(PYTHON, "-m", "kofagent", "components", option, external=True, stdout=out)
    run(session, "tests.rooms", "--write")


@nox.session
def lock(session: nox.Session) -> None:
    """Regenerates both lock files from pyproject.toml; pins that still fit stay, unless given `-- --upgrade`."""
    session.install("-q", "uv>=0.9,<1")
    builds = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    image = ["--extra", "aws", "--extra", "auth", "--extra", "ottl", "--extra", "postgresql", "--generate-hashes"]
    pin(session, ROOT / "requirements.lock", [*image, *session.posargs], extra="\n".join(builds))
    pin(session, TEST_LOCK, ["--extra", "test", "--no-annotate", *session.posargs])


def pin(session: nox.Session, file: Path, options: list[str], extra: str = "") -> None:
    """Resolves pyproject.toml (and the lines `extra`) for every platform; the comment that the file begins with stays."""
    comment = "".join(itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines(keepends=True)))
    compile_it = ["uv", "pip", "compile", "-q", "pyproject.toml", "-", "--universal", "--python-version", PYTHONS[0]]
    script = 'printf "%s\\n" "$0" | exec "$@"'
    session.run("sh", "-c", script, extra, *compile_it, "--no-header", "-o", file.name, *options, external=True, silent=True)
    file.write_text(comment + file.read_text())


@here
def bench(session: nox.Session) -> None:
    """The benchmarks; bench/README.md has their options."""
    run(session, "bench", *session.posargs)


@here
def e2e(session: nox.Session) -> None:
    """Whole agents against real servers; with KOFAGENT_CLUSTER=1 also on a whole Kubernetes cluster."""
    run(session, "pytest", "tests/e2e", "tests/e2e_cluster", *session.posargs)


@here
def faults(session: nox.Session) -> None:
    """The fault suite: agents that are killed, starved and lied to (`-- --help`, `-- --short`)."""
    run(session, "tests.faults", *session.posargs)


@here
def coverage(session: nox.Session) -> None:
    """What the tests that are not slow reach, with branches; the figure is in the last line of the table."""
    for old in ROOT.glob(".coverage*"):
        old.unlink()
    failed: CommandFailed | None = None
    try:
        run(session, "coverage", "run", "-m", "pytest", "-m", "not slow", *session.posargs, HYPOTHESIS_PROFILE="dev")
    except CommandFailed as error:
        failed = error  # the figure is shown all the same
    run(session, "coverage", "combine", "-q")
    run(session, "coverage", "report")
    if failed is not None:
        raise failed


@here
def mutate(session: nox.Session) -> None:
    """Takes deciding lines of a room out or over, one by one, and names those that no test misses: `-- ROOM...`."""
    run(session, "tests.mutate", *session.posargs, **{k: v for k, v in os.environ.items() if k == "HYPOTHESIS_PROFILE"})
