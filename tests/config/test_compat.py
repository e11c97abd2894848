"""Private APIs of libraries: each does today what the product uses it for, and one that is gone is named with its library."""

from __future__ import annotations

import ast
import codecs
import re
import ssl
from types import SimpleNamespace

import pytest
import re2

from kofagent.config import compat
from tests.rooms import ROOT, files, nodes, tree_of


def test_google_re2_matches_bytes() -> None:
    pattern = compat.re2_pattern(b"(?P<a>x)|(?P<b>\\d+)", re2.Options())
    assert pattern.ok()
    assert sorted((n.decode() if isinstance(n, bytes) else n, i) for n, i in pattern.NamedCapturingGroups()) == [("a", 1), ("b", 2)]
    assert list(pattern.Match(compat.re2_unanchored(), b"--12", 0, 4)) == [(2, 4), (-1, -1), (2, 4)]
    assert pattern.Match(compat.re2_unanchored(), b"--", 0, 2)[0] == (-1, -1)
    options = re2.Options()
    options.log_errors = False
    refused = compat.re2_pattern(b"(", options)
    assert not refused.ok() and "missing )" in str(refused.error())


def test_python_reads_regular_expressions() -> None:
    found = [(str(operation), value) for operation, value in compat.regex_tree("a|b")]
    assert found[0][0] == "IN"
    ((operation, value),) = compat.regex_tree("(?P<n>x)")
    assert str(operation) == "SUBPATTERN" and value[0] == 1 and value[3].getwidth() == (1, 1)
    with pytest.raises(re.error):
        compat.regex_tree("(")


def test_python_reads_strings_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = compat.json_string_scanner()
    assert scan('{"a\\n\\u00e9": 1}', 2, True) == ("a\n\u00e9", 12)
    with pytest.raises(ValueError, match="Unterminated"):
        scan('"a', 1, True)
    monkeypatch.setattr(compat, "json", SimpleNamespace(decoder=SimpleNamespace(__name__="json.decoder")))
    with pytest.raises(compat.IncompatibleLibrary, match=r"Python 3\.\d+.* has no json\.decoder\.scanstring,"):
        compat.json_string_scanner()


def test_python_tells_encodings_from_other_codecs() -> None:
    assert [compat.is_text_codec(codecs.lookup(name)) for name in ("utf-16", "latin-1", "base64", "rot13")] == [
        True,
        True,
        False,
        False,
    ]
    gone = SimpleNamespace(__name__="codecs")
    with pytest.raises(compat.IncompatibleLibrary, match=r"Python 3\.\d+.* has no codecs\._is_text_encoding,"):
        compat.is_text_codec(gone)  # type: ignore[arg-type]


def test_python_describes_certificates_that_are_not_verified() -> None:
    """With a certificate: `tests/receivers/httpcheck/test_optional.py`."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="a")
    assert compat.unverified_certificate(tls) == {}
    with pytest.raises(compat.IncompatibleLibrary, match=r"Python 3\.\d+.* has no SimpleNamespace\._sslobj"):
        compat.unverified_certificate(SimpleNamespace())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "module, without, call, message",
    [
        ("re2", SimpleNamespace(__name__="re2"), lambda: compat.re2_pattern(b"x", None), r"google-re2 \d.* has no re2._re2.RE2,"),
        (
            "re2",
            SimpleNamespace(__name__="re2", _re2=SimpleNamespace(RE2=lambda source, options: SimpleNamespace(ok=1, error=1))),
            lambda: compat.re2_pattern(b"x", None),
            r"google-re2 \d.* has no SimpleNamespace.Match,",
        ),
        ("re2", SimpleNamespace(__name__="re2"), compat.re2_unanchored, r"google-re2 \d.* has no re2._Anchor.UNANCHORED,"),
        ("re", SimpleNamespace(__name__="re"), lambda: compat.regex_tree("x"), r"Python 3\.\d+.* has no re._parser.parse,"),
    ],
)
def test_what_is_gone_is_named(monkeypatch: pytest.MonkeyPatch, module: str, without: object, call: object, message: str) -> None:
    monkeypatch.setattr(compat, module, without)
    with pytest.raises(compat.IncompatibleLibrary, match=message):
        call()  # type: ignore[operator]


def test_a_library_that_is_not_installed_has_no_version() -> None:
    with pytest.raises(compat.IncompatibleLibrary, match=r"^no-such-library \(unknown version\) has no SimpleNamespace\.x,"):
        compat.private("no-such-library", SimpleNamespace(), "x", "test")


def private_uses(tree: ast.Module) -> list[str]:
    """Where a source reaches for what another package calls private: `_x` of an imported module, by import or by `getattr`."""
    modules: set[str] = set()
    found: list[str] = []
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            modules |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] not in ("kofagent", "__future__"):
            modules |= {alias.asname or alias.name for alias in node.names}
            found += [name for name in (*node.module.split("."), *(a.name for a in node.names)) if name.startswith("_")]
    for node in nodes(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            root: ast.expr = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in modules:
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            name = node.args[1]
            if isinstance(name, ast.Constant) and re.match(r"_[a-z]", str(name.value)):
                found.append(ast.unparse(node))
    return found


def test_only_this_module_reaches_into_libraries() -> None:
    found = {str(path.relative_to(ROOT)): private_uses(tree_of(path)) for path in files()}
    assert {path for path, uses in found.items() if uses} <= {"config/compat.py"}, found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import re2\nx = re2._re2.RE2\n", ["re2._re2"]),
        ("import os.path as p\np._joinrealpath\n", ["p._joinrealpath"]),
        ("from re import _parser\n", ["_parser"]),
        ("from botocore._x import y\n", ["_x"]),
        ('getattr(info, "_is_text_encoding", True)\n', ["getattr(info, '_is_text_encoding', True)"]),
        ("from kofagent.net import _x\nimport os\nself._x\nos.__name__\ngetattr(a, 'b')\n", []),
    ],
)
def test_the_rule_can_fail(text: str, found: list[str]) -> None:
    assert private_uses(ast.parse(text)) == found
