from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from kofagent.wire import otlp, otlp_check
from kofagent.wire.otlp import request_descriptor
from kofagent.wire.otlp_check import NotText, TooMany, check, check_in_pieces
from kofagent.wire.otlp_text import repair
from kofagent.wire.varint import length_delimited
from tests.reference import wire as plain
from tests.support.memory import memory
from tests.support.otlp import REQUEST, items, requests, trace_request

SIGNALS = ["logs", "metrics", "traces"]
cases = st.one_of([st.tuples(st.just(s), requests(s)) for s in SIGNALS])


@st.composite
def damaged(draw: Any) -> tuple[str, bytes]:
    """A signal and a payload of it with some bytes changed."""
    signal, request = draw(cases)
    payload = bytearray(request.SerializeToString())
    for _ in range(draw(st.integers(0, 3))):
        if payload:
            payload[draw(st.integers(0, len(payload) - 1))] = draw(st.integers(0, 255))
    return signal, bytes(payload)


def places(descriptor: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The fields on the way to every field that is no message, once around where messages contain themselves."""
    for field in descriptor.fields:
        if field.message_type is None:
            yield (*path, field)
        elif sum(field.message_type is on_the_way.message_type for on_the_way in path) < 2:
            yield from places(field.message_type, (*path, field))


def nested(place: tuple[Any, ...], content: bytes) -> bytes:
    """A payload with this content in that place and nothing else."""
    for field in reversed(place):
        content = length_delimited(field.number, content)
    return content


def _verdict(signal: str, payload: bytes) -> str:
    try:
        check(signal, payload)
    except NotText:
        return "text"
    except ValueError as error:
        return "id" if "does not have" in str(error) else "malformed"
    return ""


def test_malformed_inside_a_record_is_found_by_check_only() -> None:
    payload = trace_request(2)
    record = b"\x4a\x04\x0a\x09ab"  # Span.attributes whose key is longer than the message
    bad = payload + otlp.build_resource([otlp.build_scope([record])])
    assert otlp.count("traces", bad) == 3
    with pytest.raises(ValueError):
        check("traces", bad)


@given(cases, st.data())
def test_any_cut_is_taken_or_refused_as_protobuf_does(case: tuple[str, Any], data: st.DataObject) -> None:
    signal, request = case
    payload = request.SerializeToString()
    cut = payload[: data.draw(st.integers(0, len(payload)))]
    try:
        want = items(signal, REQUEST[signal].FromString(cut))
    except Exception:
        want = None
    try:
        got = check(signal, cut)
    except ValueError:
        got = None
    assert got == want


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_big_payload_of_tiny_records_is_checked_in_pieces(signal: str) -> None:
    record = b"\x08\x01" if signal == "logs" else b"\x3a\x00"
    request = otlp.build_resource(
        [otlp.build_scope([b""] * 90_000), otlp.build_scope([record] * 10_000, b"\x0a\x01a")], b"\x10\x01"
    )
    assert check(signal, request) == (0 if signal == "metrics" else 100_000)
    for bad in (otlp.build_scope([b"\xff"]), otlp.build_scope([], b"\xff")):
        with pytest.raises(ValueError):
            check(signal, request + otlp.build_resource([bad]))
    with pytest.raises(ValueError):
        check(signal, request + otlp.build_resource([], b"\xff"))


@given(damaged())
def test_the_check_finds_what_the_plain_one_finds(case: tuple[str, bytes]) -> None:
    signal, payload = case
    assert _verdict(signal, payload) == plain.check(signal, payload)


@given(damaged())
def test_checking_in_pieces_is_checking(case: tuple[str, bytes]) -> None:
    signal, payload = case
    with pytest.MonkeyPatch.context() as patch:
        for bound in ("_BIG", "_HUGE"):
            patch.setattr(otlp_check, bound, 20)
        patch.setattr(otlp_check, "_SMALLEST", 0)
        assert _verdict(signal, payload) == plain.check(signal, payload)
        if not plain.check(signal, payload):
            assert check(signal, payload) == otlp.count(signal, payload)


PLACES = [(signal, place) for signal in SIGNALS for place in places(request_descriptor(signal))]
TEXTS = [(signal, place) for signal, place in PLACES if place[-1].type == FieldDescriptor.TYPE_STRING]
ID_PLACES = [(signal, place) for signal, place in PLACES if place[-1].name in plain.IDS]


def _named(case: Any) -> str:
    return ".".join([case[0], *[field.name for field in case[1]]])


@pytest.mark.parametrize("case", TEXTS, ids=_named)
def test_every_string_of_every_message_is_checked_and_repaired(case: tuple[str, tuple[Any, ...]]) -> None:
    signal, place = case
    good, bad = nested(place, b"caf\xc3\xa9"), nested(place, b"\xffcaf\xc3\xa9 \xe2\x82\xe2 \xed\xa0\x80")
    for payload, damage in ((good + bad + good, 1), (bad + bad, 2)):
        with pytest.raises(NotText):
            check(signal, payload)
        mended, strings = repair(signal, payload)
        assert strings == damage
        want = nested(place, "\ufffdcaf\u00e9 \ufffd \ufffd".encode())
        assert mended == payload.replace(bad, want)
        REQUEST[signal].FromString(mended)
        check(signal, mended)


@pytest.mark.parametrize("bound", [0, 20, otlp_check._BIG])
@pytest.mark.parametrize("case", ID_PLACES, ids=_named)
def test_an_id_of_another_length_is_refused_wherever_it_is(
    case: tuple[str, tuple[Any, ...]], bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal, place = case
    if bound < otlp_check._BIG:
        monkeypatch.setattr(otlp_check, "_BIG", bound)
        monkeypatch.setattr(otlp_check, "_HUGE", bound)
    size = plain.IDS[place[-1].name]
    for length in (0, size):
        check(signal, nested(place, b"\xff" * length) + nested(place, b""))
    for length in (1, size - 1, size + 1, 2 * size, 24 - size):
        with pytest.raises(ValueError, match=f"a {place[-1].name} that does not have {size} bytes"):
            check(signal, nested(place, b"\xff" * length) + nested(place, b"\xff" * size))
    # lengths that add up to the right sum
    with pytest.raises(ValueError, match="does not have"):
        check(signal, nested(place, b"\xff" * (size // 2)) + nested(place, b"\xff" * (size + size // 2)))


def test_repair_keeps_what_it_does_not_know() -> None:
    unknown = length_delimited(77, b"\xff") + b"\xf3\x04\x08\x01\xf4\x04"  # a field and a group
    bad = otlp.build_resource([otlp.build_scope([unknown + length_delimited(3, b"\xff") + unknown])]) + unknown
    mended, strings = repair("logs", bad)
    record = next(iter(otlp.resources(mended))).scopes[0].records[0]
    assert (record, strings) == (unknown + length_delimited(3, b"\xef\xbf\xbd") + unknown, 1)
    assert mended.endswith(unknown)


EMPTY_MANY = {
    "logs: attributes of a resource": "length_delimited(1, length_delimited(1, b'\\x0a\\x00' * n))",
    "logs: attributes of a record": "length_delimited(1, length_delimited(2, length_delimited(2, b'\\x32\\x00' * n)))",
    "logs: values of a body": "length_delimited(1, length_delimited(2, length_delimited(2, length_delimited(5, length_delimited(5, b'\\x0a\\x00' * n)))))",
    "logs: resources": "b'\\x0a\\x00' * n",
    "logs: scopes": "length_delimited(1, b'\\x12\\x00' * n)",
    "traces: spans": "length_delimited(1, length_delimited(2, b'\\x12\\x00' * n))",
    "traces: ids of a span": "length_delimited(1, length_delimited(2, length_delimited(2, b'\\x0a\\x00' * n)))",
    "metrics: metrics": "length_delimited(1, length_delimited(2, b'\\x12\\x00' * n))",
    "metrics: points": "length_delimited(1, length_delimited(2, length_delimited(2, length_delimited(5, b'\\x0a\\x00' * n))))",
}


@pytest.mark.slow
@pytest.mark.parametrize("n", [1_000_000, 2_000_000])
@pytest.mark.parametrize("what", EMPTY_MANY)
def test_empty_messages_take_no_memory_however_many(what: str, n: int) -> None:
    signal = what.partition(":")[0]
    program = f"""
from kofagent.memory.pressure import PRESSURE
from kofagent.wire.otlp_check import check
from kofagent.wire.varint import length_delimited
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
n = {n}
payload = {EMPTY_MANY[what]}
PRESSURE.set(1)
check("{signal}", b"")
before = peak()
try:
    check("{signal}", payload)
except ValueError:
    pass
print(peak() - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
    assert grown < 10_000, f"{grown} KiB"


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_check_in_pieces_stops_at_too_many_items(signal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_check, "_BIG", 50)
    record = b"\x2a\x04\x0a\x00\x0a\x00" if signal == "metrics" else b""  # two points
    one, each = otlp.build_resource([otlp.build_scope([record] * 30)]), 60 if signal == "metrics" else 30
    for payload, number in ((one, each), (one * 3, 3 * each)):
        assert check_in_pieces(signal, payload) == check_in_pieces(signal, payload, number) == number
        for most in {0, each - 1, number - 1}:
            with pytest.raises(TooMany):
                check_in_pieces(signal, payload, most)


@pytest.mark.parametrize("signal", SIGNALS)
def test_what_there_is_no_room_for_is_not_checked_at_once(signal: str) -> None:
    payload = otlp.build_resource([otlp.build_scope([b"\x3a\x60" + bytes(96)] * 8_000)])
    for used, room in ((10, True), (110, False)):
        with memory(128, used):
            assert otlp_check.at_once(signal, payload) == room


def test_many_small_resources_are_taken() -> None:
    payload = otlp.build_resource([otlp.build_scope([b"\x2a\x03\x0a\x01x"])], b"\x0a\x03\x0a\x01k") * 20_000
    assert check("logs", payload) == 20_000
