"""The rooms and who may open which door, held against the imports in the code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "kofagent"

# Lower numbers import nothing of higher ones. Rooms of one number do not import each other, except where SIDEWAYS says so.
LAYERS = {
    "wire": 0,
    "telemetry": 1,
    "config": 1,
    "pipeline.component": 2,
    "pipeline.registry": 2,
    "operators": 3,
    "ottl": 3,
    "prometheus": 3,
    "kubernetes": 3,
    "storage": 3,
    "net": 3,
    "receivers": 4,
    "processors": 4,
    "exporters": 4,
    "connectors": 4,
    "extensions": 4,
    "pipeline": 5,
    "values": 6,
    "region": 6,
    "cli": 7,
    "web": 7,
}
SIDEWAYS = {
    ("pipeline.registry", "pipeline.component"),
    ("telemetry", "config"),
    ("prometheus", "net"),
    ("kubernetes", "net"),
    ("prometheus", "storage"),
    ("prometheus", "kubernetes"),
    ("net", "storage"),
}
COMPONENT_ROOMS = ("receivers", "processors", "exporters", "connectors", "extensions")


def room(module: str) -> str:
    parts = module.split(".")[1:]
    if not parts:
        return ""
    two = ".".join(parts[:2])
    return two if two in LAYERS else parts[0]


def imports(path: Path) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.append((node.module, node.lineno))
            found += [
                (f"{node.module}.{alias.name}", node.lineno)
                for alias in node.names
                if (ROOT.parent / node.module.replace(".", "/") / f"{alias.name}.py").exists()
            ]
    return [(name, line) for name, line in found if name.startswith("kofagent.")]


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def violations(path: Path) -> list[str]:
    module = module_of(path)
    own = room(module)
    if not own or own == "__main__":
        return []
    out = []
    for name, line in imports(path):
        other = room(name)
        if not other or other == own:
            if own in COMPONENT_ROOMS and name.split(".")[2:3] and name.split(".")[2] != module.split(".")[2]:
                out.append(f"{path}:{line}: component {module} imports component {name}")
            continue
        allowed = LAYERS[other] < LAYERS[own] or (own, other) in SIDEWAYS
        if not allowed:
            out.append(f"{path}:{line}: {own} imports {other} ({name})")
    return out


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    assert not violations(path)


def test_every_room_has_a_place_in_the_order() -> None:
    rooms = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__"}
    known = {name.split(".")[0] for name in LAYERS}
    assert rooms <= known, f"rooms without a place: {rooms - known}"


def test_the_rule_can_fail(tmp_path: Path) -> None:
    bad = ROOT / "wire" / "nothing.py"
    assert room(module_of(bad)) == "wire"
    tree = tmp_path / "x.py"
    tree.write_text("from kofagent.config.base import ComponentConfig\n")
    assert imports(tree) == [("kofagent.config.base", 1)]
    assert LAYERS["config"] > LAYERS["wire"]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_sources_are_ascii_and_say_what_they_hold(path: Path) -> None:
    text = path.read_text()
    assert text.isascii(), "source is ASCII"
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "a module says what it holds"
