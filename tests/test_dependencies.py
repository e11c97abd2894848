"""What is imported is declared in pyproject.toml, what is declared is used, and every requirement is bounded on both sides.

A package that is there only because another one needs it may go or change with any release of that other.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import rooms

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = {"kofagent", "tests", "bench", "__future__"}
COMMANDS = {"coverage", "moto", "mypy", "nox", "pytest-asyncio", "ruff"}
"""Declared for the tests and run, not imported; `types-*` are for mypy."""
NOT_IN_THE_IMAGE = {"cryptography"}
"""12 MB, for logins that few use."""
BY_NAME = {"bcrypt", "lxml"}
"""Imported by `import_module`, so that mypy does not ask for them where the extra is not installed."""


def names(requirements: Iterable[str]) -> set[str]:
    """The canonical names of requirements, without those of the project itself."""
    return {str(canonicalize_name(Requirement(text).name)) for text in requirements} - {"kofagent"}


@cache
def owners() -> dict[str, str]:
    """Every module that is installed -> the distribution it came with, from the lists of installed files."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = canonicalize_name(distribution.name)
        for line in (distribution.read_text("RECORD") or "").splitlines():
            file = line.partition(",")[0]
            if file.endswith((".py", ".so", ".pyi")) and not file.startswith(".."):
                folder, _, base = file.rpartition("/")
                module = f"{folder}/{base.partition('.')[0]}".removesuffix("/__init__").strip("/")
                found[module.replace("/", ".")] = name
    return found


def owner(module: str) -> str:
    """The distribution of a module, or of the nearest package above it; the module's own name if there is none."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        if found := owners().get(".".join(parts[:end])):
            return found
    return module


def imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """The modules of others that a source imports: (name, whether only a function does)."""
    for node, lazy in rooms.statements(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in found:
            top = name.partition(".")[0]
            if top not in OURS and top not in sys.stdlib_module_names:
                yield name, lazy


def undeclared(tree: ast.Module, always: set[str], optional: set[str]) -> list[str]:
    """Imports of distributions that are in neither set, or that are optional and not imported by a function."""
    return [
        f"{name} is of {owner(name)}"
        for name, lazy in imports(tree)
        if owner(name) not in always and not (lazy and owner(name) in optional)
    ]


def trees(folder: str) -> dict[str, ast.Module]:
    return {str(path.relative_to(ROOT)): rooms.tree_of(path) for path in (ROOT / folder).rglob("*.py")}


def imported(folder: str) -> set[str]:
    return {owner(name) for tree in trees(folder).values() for name, _ in imports(tree)}


REQUIRED = names(PROJECT["dependencies"])
OPTIONAL = names(text for extra, requirements in EXTRAS.items() if extra != "test" for text in requirements)
TEST = names(EXTRAS["test"])


@pytest.mark.parametrize("folder", ["kofagent", "tests", "bench"])
def test_what_is_imported_is_declared(folder: str) -> None:
    always, optional = (REQUIRED, OPTIONAL) if folder == "kofagent" else (REQUIRED | OPTIONAL | TEST, set())
    wrong = {path: undeclared(tree, always, optional) for path, tree in trees(folder).items()}
    assert {path: found for path, found in wrong.items() if found} == {}


def test_everything_declared_is_used() -> None:
    assert imported("kofagent") >= REQUIRED | OPTIONAL - BY_NAME
    stubs = {name for name in TEST if name.startswith("types-")}
    assert TEST - COMMANDS - stubs <= imported("tests") | imported("bench")


def test_every_requirement_is_bounded_on_both_sides() -> None:
    texts = [*PROJECT["dependencies"], *(text for requirements in EXTRAS.values() for text in requirements)]
    texts = [text for text in texts if Requirement(text).name != "kofagent"]
    assert len(texts) > 20
    loose = [text for text in texts if {s.operator for s in Requirement(text).specifier} != {">=", "<"}]
    assert loose == []


@pytest.mark.parametrize(
    "lock, declared", [("requirements.lock", REQUIRED | OPTIONAL - NOT_IN_THE_IMAGE), ("requirements-test.lock", REQUIRED | TEST)]
)
def test_the_locks_hold_what_is_declared(lock: str, declared: set[str]) -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))
    texts = [*PROJECT["dependencies"], *(text for requirements in EXTRAS.values() for text in requirements)]
    wanted = {str(canonicalize_name(r.name)): r.specifier for r in map(Requirement, texts)}
    assert [name for name in sorted(declared) if pins.get(name, "none") not in wanted[name]] == [], "run: nox -s lock"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("import yaml\n", []),
        ("from google.protobuf import json_format\n", ["google.protobuf.json_format is of protobuf"]),
        ("from google.rpc.status_pb2 import Status\n", ["google.rpc.status_pb2.Status is of googleapis-common-protos"]),
        ("def f():\n    import bcrypt\n", []),
        ("import bcrypt\n", ["bcrypt is of bcrypt"]),
        ("import not_there.at_all\n", ["not_there.at_all is of not_there.at_all"]),
        ("import os\nfrom . import x\nfrom kofagent import y\n", []),
    ],
)
def test_the_rule_can_fail(text: str, wrong: list[str]) -> None:
    assert undeclared(ast.parse(text), {"pyyaml"}, {"bcrypt"}) == wrong
