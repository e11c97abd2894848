"""Failed connections are told in words that people know."""

from __future__ import annotations

import asyncio

import pytest

from kofagent.net.os_errors import os_reason
from tests.support.servers import free_port


async def test_the_words_of_the_operating_system() -> None:
    with pytest.raises(OSError) as refused:
        await asyncio.open_connection("127.0.0.1", free_port())
    assert os_reason(refused.value) == "Connection refused"
    with pytest.raises(OSError) as unknown:
        await asyncio.open_connection("nobody.invalid", 1)
    assert "not known" in os_reason(unknown.value) or "resolution" in os_reason(unknown.value)
    assert os_reason(OSError("several things")) == "several things" and os_reason(TimeoutError()) == "TimeoutError"
