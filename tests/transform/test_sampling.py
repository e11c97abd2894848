"""Thresholds, randomness and tracestates, by upstream's examples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.transform import sampling
from kofagent.transform.sampling import NEVER, TraceState


@pytest.mark.parametrize(
    ("probability", "digits", "text"),
    [
        (1.0, 4, "0"),
        (0.5, 4, "8"),
        (0.25, 4, "c"),
        (0.01, 14, "fd70a3d70a3d71"),
        (0.01, 4, "fd70a"),
        (0.01, 3, "fd71"),
        (0.4, 3, "99a"),
        (0.2, 6, "cccccd"),
        (2.0**-28, 4, "fffffff"),
        (2.0**-56, 4, "ffffffffffffff"),
    ],
)
def test_thresholds(probability: float, digits: int, text: str) -> None:
    threshold = sampling.threshold_of(probability, digits)
    assert sampling.threshold_text(threshold) == text
    assert sampling.read_threshold(text) == threshold
    assert sampling.probability_of(threshold) == pytest.approx(probability, rel=1e-2)


def test_what_lets_nothing_pass_is_not_written() -> None:
    assert sampling.threshold_text(NEVER) == "" and sampling.probability_of(NEVER) == 0
    for probability in (0.0, 2.0**-57, 1.1, float("nan")):
        with pytest.raises(ValueError):
            sampling.threshold_of(probability)


@pytest.mark.parametrize("text", ["", "-1", "0x1", "1_0", " 1", "g", "123456789012345"])
def test_what_is_no_threshold(text: str) -> None:
    with pytest.raises(ValueError):
        sampling.read_threshold(text)
    with pytest.raises(ValueError):
        sampling.read_randomness(text.ljust(14, "0") if text in ("0x1", "1_0", "g") else text)


def test_randomness_is_the_end_of_a_trace_id() -> None:
    assert sampling.randomness_text(sampling.randomness_of(bytes.fromhex("fe" * 9 + "80000000000001"))) == "80000000000001"


@pytest.mark.parametrize(
    ("text", "threshold", "written"),
    [
        ("", None, ""),
        ("ot=th:8", 1 << 55, "ot=th:8"),
        ("a=b, ot=rv:FD70A3D70A3D71;x:y;th:80000000 ,t@s=v", 1 << 55, "ot=rv:FD70A3D70A3D71;th:8;x:y,a=b,t@s=v"),
        ("a=b,,", None, "a=b"),
    ],
)
def test_tracestates(text: str, threshold: int | None, written: str) -> None:
    state = TraceState(text)
    assert state.threshold == threshold and str(state) == written


@pytest.mark.parametrize(
    "text",
    [
        "ot=th:",
        "ot=th:-1",
        "ot=rv:abababababababab",
        "ot=th:8;",
        "ot=;",
        "A=b",
        "a",
        "a=",
        "a=b=c",
        "a=" + "x" * 257,
        "ot=" + "x:" + "y" * 255,
        ",".join(f"k{i}=v" for i in range(33)),
        "a=" + "x" * 1100,
    ],
)
def test_what_is_no_tracestate(text: str) -> None:
    with pytest.raises(ValueError):
        TraceState(text)


@given(st.integers(0, NEVER - 1))
def test_a_threshold_is_read_as_it_was_written(threshold: int) -> None:
    assert sampling.read_threshold(sampling.threshold_text(threshold)) == threshold
