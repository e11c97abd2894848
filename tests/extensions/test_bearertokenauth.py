"""bearertokenauth: tokens sent and checked, files that change."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kofagent.component.protocols import StartError, Unauthorized
from kofagent.extensions.bearertokenauth import COMPONENT
from tests.support.components import make


async def auth(**options: Any) -> Any:
    made = make(COMPONENT, options, kind="extensions", id="bearertokenauth")
    await made.start()
    return made


async def test_a_token_is_sent_and_checked() -> None:
    made = await auth(token="secret")
    assert await made.request_headers(None) == {"authorization": "Bearer secret"}
    assert await made.authenticate({"authorization": "Bearer secret"}) == {}
    for headers in (
        {},
        {"authorization": "secret"},
        {"authorization": "Bearer Secret"},
        {"authorization": "Bearer "},
        {"x-api-key": "Bearer secret"},
    ):
        with pytest.raises(Unauthorized) as refused:
            await made.authenticate(headers)
        assert "secret" not in str(refused.value).lower()


async def test_other_header_scheme_and_several_tokens() -> None:
    made = await auth(header="X-Api-Key", scheme="", tokens=["one", "two"])
    assert await made.request_headers(None) == {"x-api-key": "one"}
    for token in ("one", "two"):
        await made.authenticate({"x-api-key": token})
    with pytest.raises(Unauthorized):
        await made.authenticate({"x-api-key": "three"})


async def test_a_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\ntwo\n\n")
    made = await auth(filename=str(file), token="ignored")
    assert await made.request_headers(None) == {"authorization": "Bearer one"}
    await made.authenticate({"authorization": "Bearer two"})
    made._file._interval = made._file._next = 0
    file.write_text("three")
    assert await made.request_headers(None) == {"authorization": "Bearer three"}
    with pytest.raises(Unauthorized):
        await made.authenticate({"authorization": "Bearer two"})
    for trouble in (lambda: file.write_text(""), file.unlink):
        trouble()
        made._file._next = 0
        assert await made.request_headers(None) == {"authorization": "Bearer three"}
        assert made.context.host.statuses["extensions/bearertokenauth"]


async def test_a_missing_file_fails_the_start_or_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(StartError, match="No such file"):
        await auth(filename=str(file))
    waiting = asyncio.create_task(
        auth(filename=str(file), file_retry={"enabled": True, "max_retries": 1000, "retry_interval": "10ms"})
    )
    await asyncio.sleep(0)
    file.write_text("x")
    made = await asyncio.wait_for(waiting, 20)
    assert await made.request_headers(None) == {"authorization": "Bearer x"}
    with pytest.raises(StartError):
        await auth(filename=str(tmp_path / "no"), file_retry={"enabled": True, "max_retries": 2, "retry_interval": "1ms"})


@pytest.mark.parametrize(
    "options", [{}, {"token": ""}, {"token": "a", "tokens": ["b"]}, {"tokens": ["a", ""]}, {"token": "a", "header": ""}]
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make(COMPONENT, options, kind="extensions")
