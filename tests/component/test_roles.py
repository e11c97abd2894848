"""What an extension can be named for: a wrong one is an error at the start, never at the first request."""

from __future__ import annotations

from typing import Any

import pytest

from kofagent.component import registry
from kofagent.component.checkpoints import StorageExtension
from kofagent.component.protocols import ClientAuth, ServerAuth, StartError, in_role
from kofagent.component.queue_storage import QueueStorage
from tests.support.components import make
from tests.test_contract import OPTIONS

ROLES: dict[str, set[type]] = {
    "basicauth": {ClientAuth, ServerAuth},
    "bearertokenauth": {ClientAuth, ServerAuth},
    "headers_setter": {ClientAuth},
    "oauth2client": {ClientAuth},
    "file_storage": {StorageExtension, QueueStorage},
}


@pytest.mark.parametrize("type", registry.TYPES["extensions"])
@pytest.mark.parametrize(
    ("role", "word"),
    [
        (ClientAuth, "sign requests"),
        (ServerAuth, "check requests"),
        (StorageExtension, "store data"),
        (QueueStorage, "store queues"),
    ],
)
def test_an_extension_is_used_for_what_it_can_do(type: str, role: Any, word: str) -> None:
    extension = make(registry.load("extensions", type), OPTIONS.get(("extensions", type)), kind="extension", id=type)
    if role in ROLES.get(type, ()):
        assert in_role(extension, type, role) is extension
        return
    with pytest.raises(StartError, match=f"extension '{type}' cannot {word}"):
        in_role(extension, type, role)


def test_one_that_does_not_run() -> None:
    with pytest.raises(StartError, match="'x' is not running"):
        in_role(None, "x", ClientAuth)
