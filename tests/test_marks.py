"""A byte order mark at the start of a file, which some editors write, is no text, whoever reads the file."""

from __future__ import annotations

import logging
from pathlib import Path

from kofagent.config.expand import find_secret
from kofagent.config.source import load_file
from kofagent.extensions.basicauth import COMPONENT as BASICAUTH
from kofagent.operators.json_text import decode_json
from kofagent.prometheus.credentials import read_secret
from kofagent.prometheus.discovery.config import FileSdConfig
from kofagent.prometheus.discovery.file import FileDiscovery
from tests.extensions.test_basicauth import basic
from tests.support.components import make

MARK = "\ufeff"


async def test_files_with_a_mark(tmp_path: Path) -> None:
    def file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(MARK + text)
        return path

    assert load_file(str(file("c.yaml", "a: 1\n"))).plain() == {"a": 1}
    assert read_secret(str(file("token", "secret\n")), "token") == "secret"
    file("s/key", "secret\n")
    assert find_secret("s", "key", {"KOFAGENT_SECRETS_DIR": str(tmp_path)}) == "secret"
    client = {"username_file": str(file("u", "user\n")), "password_file": str(file("p", "pass\n"))}
    auth = make(BASICAUTH, {"client_auth": client}, kind="extensions")
    await auth.start()
    assert await auth.request_headers(None) == basic("user", "pass")
    for name, text in (("t.json", '[{"targets": ["a:1"]}]'), ("t.yaml", "- targets: [a:1]\n")):
        found = FileDiscovery(FileSdConfig(files=[str(file(name, text))]), logging.getLogger("test.marks")).changes()
        assert [len(group.targets) for group in found] == [1]


def test_texts_with_a_mark() -> None:
    assert decode_json(MARK + '{"a":1}') == {"a": 1.0}
    assert decode_json(MARK + "[1] x", trailing=True) == [1.0]
