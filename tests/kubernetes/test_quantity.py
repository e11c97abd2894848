"""Quantities and image names against the API's own rules."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.kubernetes.image import split_image
from kofagent.kubernetes.quantity import cores, milli, parse, whole

FACTORS: dict[str, Fraction | int] = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
}


@pytest.mark.parametrize(
    "text, value, thousandths",
    [
        ("100m", 1, 100),
        ("1", 1, 1000),
        ("1500m", 2, 1500),
        ("0", 0, 0),
        ("1.5Gi", 3 << 29, 3000 << 29),
        ("2e3", 2000, 2_000_000),
        ("1E3", 1000, 1_000_000),
        ("1E", 10**18, (1 << 63) - 1),
        ("100n", 1, 1),
        ("-1500m", -1, -1500),
        (".5", 1, 500),
        ("5.", 5, 5000),
        ("16Ei", (1 << 63) - 1, (1 << 63) - 1),
        ("1e999", (1 << 63) - 1, (1 << 63) - 1),
        ("+3k", 3000, 3_000_000),
        ("129e6", 129_000_000, 129_000_000_000),
        ("7".zfill(100), 7, 7000),
        ("123Mi", 123 << 20, 123000 << 20),
    ],
)
def test_known_quantities(text: str, value: int, thousandths: int) -> None:
    assert whole(text) == value
    assert milli(text) == thousandths


@given(st.integers(-(10**9), 10**9), st.integers(0, 999), st.sampled_from(list(FACTORS)))
def test_quantities_are_rounded_up(units: int, decimals: int, suffix: str) -> None:
    text = f"{units}.{decimals:03}{suffix}"
    exact = Fraction(f"{units}.{decimals:03}") * FACTORS[suffix]
    assert whole(text) == max(min(-(-exact.numerator // exact.denominator), (1 << 63) - 1), -(1 << 63) + 1)
    assert Fraction(parse(text)) == exact


@pytest.mark.parametrize("text", ["", "m", "1x", "1 Gi", "1gi", "1e", "0x10", "Infinity", "NaN", "1_000", "\u0661", "1" * 101])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="not a Kubernetes quantity"):
        whole(text)


def test_cores() -> None:
    assert cores("250m") == 0.25
    assert cores("0.1001") == 0.101


@pytest.mark.parametrize(
    "image, parts",
    [
        ("nginx", ("nginx", "latest")),
        ("nginx:1.27", ("nginx", "1.27")),
        ("library/nginx:x", ("library/nginx", "x")),
        ("registry.test:5000/team/app:1.2", ("registry.test:5000/team/app", "1.2")),
        ("registry.test:5000/app", ("registry.test:5000/app", "latest")),
        ("localhost/pause:1", ("localhost/pause", "1")),
        ("[::1]:5000/app:2", ("[::1]:5000/app", "2")),
        ("app:2@sha256:" + "a" * 64, ("app", "2")),
        ("app@sha256:" + "a" * 64, ("app", "latest")),
        ("sha256:" + "a" * 64, ("sha256", "a" * 64)),
        ("REGISTRY.test/app", ("REGISTRY.test/app", "latest")),
        ("a_b__c/d-e.f", ("a_b__c/d-e.f", "latest")),
        ("", None),
        ("Not An Image", None),
        ("App", None),
        ("app:", None),
        ("app:tag:tag", None),
        ("/app", None),
        ("app/", None),
        ("app@sha256:abc", None),
        ("a" * 255, ("a" * 255, "latest")),
        ("a" * 256, None),
        ("app:" + "t" * 129, None),
        ("a..b", None),
        ("app\n", None),
    ],
)
def test_images(image: str, parts: tuple[str, str] | None) -> None:
    assert split_image(image) == parts
