"""Watch streams cut anywhere, and answers that are not what an API server should send."""

from __future__ import annotations

import asyncio
import itertools
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kofagent.kubernetes import errors
from kofagent.kubernetes.client import _lines
from kofagent.kubernetes.errors import ApiError, Forbidden, Gone, NotFound, Unauthorized
from kofagent.kubernetes.resources import PODS
from kofagent.kubernetes.watch import Timing

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Chunks:
    """A response body that comes in these pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [p for p in pieces if p]

    async def readany(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


async def read(pieces: list[bytes]) -> list[bytes]:
    return [line async for line in _lines(SimpleNamespace(content=Chunks(pieces)), 5, "server")]  # type: ignore[arg-type]


@example(b"{}\n", [2])
@given(st.lists(st.sampled_from([b"a", b"{}", b"\n", b"\r"]), max_size=40).map(b"".join), st.lists(st.integers(0, 60), max_size=6))
@UNTIMED
def test_lines_do_not_depend_on_where_the_stream_is_cut(data: bytes, cuts: list[int]) -> None:
    at = sorted({0, len(data), *(c for c in cuts if c <= len(data))})
    pieces = [data[a:b] for a, b in itertools.pairwise(at)]
    whole = data[: data.rfind(b"\n") + 1]  # what follows the last newline is half an event
    assert asyncio.run(read(pieces)) == [line for line in whole.split(b"\n") if line]


@given(
    st.binary(max_size=40)
    | st.dictionaries(
        st.sampled_from(["code", "reason", "message", "details", "status"]),
        st.none() | st.integers() | st.text(max_size=5) | st.dictionaries(st.just("retryAfterSeconds"), st.integers() | st.text()),
    ).map(lambda d: json.dumps(d).encode()),
    st.sampled_from([400, 401, 403, 404, 410, 429, 500]),
)
@UNTIMED
def test_any_body_makes_an_error(body: bytes, status: int) -> None:
    error = errors.from_status(status, body, "list", "pods", PODS)
    assert isinstance(error, ApiError) and str(error)


@pytest.mark.parametrize(
    "said, kind",
    [
        ({"code": 410, "reason": "Expired"}, Gone),
        ({"code": 410}, Gone),
        ({"reason": "Expired"}, Gone),
        ({"code": 504, "reason": "Timeout"}, ApiError),
        ({"code": 403, "message": 'User "x" cannot'}, Forbidden),
        ({"code": 401}, Unauthorized),
        ({"code": 404}, NotFound),
        ({}, ApiError),
    ],
)
def test_errors_in_a_stream(said: dict[str, Any], kind: type[ApiError]) -> None:
    assert type(errors.from_object(said, "watch", "pods", PODS)) is kind


def test_a_server_that_names_a_time_is_obeyed() -> None:
    error = errors.from_object({"code": 429, "details": {"retryAfterSeconds": 7}}, "list", "pods", PODS)
    assert error.retry_after == 7
    waits = Timing().backoff()
    assert waits.next(at_least=7) == 7 and waits.next(at_least=10_000) == 120
