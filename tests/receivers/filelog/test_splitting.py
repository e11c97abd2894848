"""The hot path over lines against its plain twin, and the splitters over every way of cutting their input."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.receivers.filelog.config import Config
from kofagent.receivers.filelog.encodings import lookup
from kofagent.receivers.filelog.splitting import Clean, Limit, make_splitter
from tests.reference.filelog_lines import clean

LINES = st.lists(st.text(alphabet=" \t\r\v\fab\u00e9", max_size=8)).map(lambda lines: "".join(x + "\n" for x in lines).encode())


@given(LINES, st.booleans(), st.booleans())
def test_clean_agrees_with_the_plain_twin(text: bytes, leading: bool, trailing: bool) -> None:
    assert Clean(leading, trailing).chunk(text or b"\n") == clean(text or b"\n", leading, trailing)


def test_clean_gives_the_same_object_when_there_is_nothing_to_do() -> None:
    text = b"one\ntwo\n"
    assert Clean(False, False).chunk(text) is text


def test_partial_lines_of_containers_keep_their_end() -> None:
    text = b"2024 stdout P a \n2024 stdout F b \n2024 stderr P c \r\n"
    assert Clean(False, False, True).chunk(text) == b"2024 stdout P a \n2024 stdout F b\n2024 stderr P c \n"


@pytest.mark.parametrize("multiline", [{}, {"line_start_pattern": "^E"}, {"line_end_pattern": "X\n"}])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16le", "shift_jis"])
@given(text=st.text(alphabet="EX\na\u3042", max_size=40), size=st.integers(1, 9))
def test_splitting_does_not_depend_on_how_the_bytes_arrive(multiline: Any, encoding: str, text: str, size: int) -> None:
    config = Config.model_validate({"include": ["/x"], "encoding": encoding, "multiline": multiline})
    how = lookup(encoding)
    splitter = make_splitter(config, how)
    data = text.encode(encoding)

    def run(step: int) -> tuple[list[bytes], bytes]:
        rest, out = b"", []
        for at in range(0, len(data), step):
            rest += data[at : at + step]
            whole = len(rest) - len(rest) % how.width
            spans, end = splitter.split(rest[:whole], at + step < len(data))
            out += [rest[start:stop] for _, start, stop in spans]
            rest = rest[end:]
        return out, rest

    whole, rest = run(max(1, len(data)))
    pieces, rest_of_pieces = run(size)
    assert (pieces, rest_of_pieces) == (whole, rest)
    if multiline:
        assert b"".join(whole) + rest == data


@given(st.binary(max_size=60), st.integers(1, 12), st.booleans())
def test_limited_entries_lose_nothing_and_are_short(data: bytes, size: int, utf8: bool) -> None:
    limit = Limit(size, False, lookup("utf-8" if utf8 else "latin-1"))
    spans = limit.apply(data, [(0, 0, len(data))])
    assert b"".join(data[a:b] for _, a, b in spans) == data
    assert all(b - a <= size for _, a, b in spans)
