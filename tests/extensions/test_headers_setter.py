"""headers_setter: every action and source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kofagent.component.protocols import StartError
from kofagent.extensions.bearertokenauth import COMPONENT as BEARER
from kofagent.extensions.headers_setter import COMPONENT
from tests.support.components import FakeHost, make


async def setter(headers: list[dict[str, Any]], **more: Any) -> Any:
    host = FakeHost({"bearertokenauth": make(BEARER, {"token": "t"}, kind="extensions")})
    made = make(COMPONENT, {"headers": headers, **more}, kind="extensions", id="headers_setter", host=host)
    await made.start()
    return made


async def test_sources(tmp_path: Path) -> None:
    file = tmp_path / "v"
    file.write_text("filed\n")
    made = await setter(
        [
            {"key": "X-Fixed", "value": "v"},
            {"key": "X-File", "value_file": str(file)},
            {"key": "X-Scope-OrgID", "from_context": "Tenant_ID", "default_value": "none"},
            {"key": "X-User", "from_attribute": "username"},
            {"key": "X-User2", "from_attribute": "auth.username", "default_value": "-"},
        ]
    )
    assert await made.request_headers({"tenant_id": ("acme\r\nX-Evil: 1", "b"), "auth.username": ("anna",)}) == {
        "x-fixed": "v",
        "x-file": "filed",
        "x-scope-orgid": "acmeX-Evil: 1",
        "x-user": "anna",
        "x-user2": "anna",
    }
    assert await made.request_headers(None) == {
        "x-fixed": "v",
        "x-file": "filed",
        "x-scope-orgid": "none",
        "x-user": "",
        "x-user2": "-",
    }


@pytest.mark.parametrize(
    ("action", "key", "result"),
    [
        ("insert", "Authorization", "Bearer t"),
        ("update", "Authorization", "new"),
        ("upsert", "Authorization", "new"),
        ("insert", "X", "new"),
        ("update", "X", None),
        ("upsert", "X", "new"),
        ("delete", "Authorization", None),
    ],
)
async def test_actions(action: str, key: str, result: str | None) -> None:
    source = {} if action == "delete" else {"value": "new"}
    made = await setter([{"action": action, "key": key, **source}], additional_auth="bearertokenauth")
    assert (await made.request_headers(None)).get(key.lower()) == result


async def test_wrong_starts(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"add it to service\.extensions"):
        await setter([{"key": "a", "value": "b"}], additional_auth="nobody")
    with pytest.raises(StartError, match="No such file"):
        await setter([{"key": "a", "value_file": str(tmp_path / "none")}])


@pytest.mark.parametrize(
    "header",
    [
        {"key": "a"},
        {"key": "", "value": "x"},
        {"key": "a", "value": "x", "from_context": "y"},
        {"key": "a", "value": "x", "default_value": "y"},
        {"key": "a", "value": "x", "action": "add"},
    ],
)
def test_wrong_options(header: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make(COMPONENT, {"headers": [header]}, kind="extensions")
