"""`header`: the lines at the start of a file that match a pattern; operators make attributes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kofagent.config.re2 import compile_re2
from kofagent.operators.chain import Chain
from kofagent.receivers.filelog.config import HeaderBlock
from kofagent.receivers.filelog.encodings import Encoding


class Header:
    """Takes header lines off the start of a file. `chain` compiles the metadata operators once."""

    def __init__(self, config: HeaderBlock, encoding: Encoding, chain: Callable[[list[dict[str, Any]]], Chain]) -> None:
        self._pattern = compile_re2(config.pattern)
        self._encoding = encoding
        self._chain = chain(config.metadata_operators)

    def parse(self, data: bytes, observed_ns: int, force: bool = False) -> tuple[int, bool, dict[str, Any]]:
        """How many bytes of `data` are header lines, whether the header ends there, and the attributes they give.

        `force`: an incomplete line that is no header line ends the header, too.
        """
        attributes: dict[str, Any] = {}
        at = 0
        while True:
            after = self._encoding.after_newline(data, at)
            if not after and not (force and at < len(data)):
                return at, False, attributes
            line = self._encoding.text(data[at:after] if after else data[at:]).strip(b"\r\n")
            if self._pattern.search(line) is None:
                return at, True, attributes
            if not after:
                return at, False, attributes
            attributes.update(self._attributes(line, observed_ns))
            at = after

    def _attributes(self, line: bytes, observed_ns: int) -> dict[str, Any]:
        """What the operators make of one line; empty when they fail on it (they count and log that)."""
        from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

        stream = self._chain.open({})
        try:
            stream.feed_entries([line.decode("utf-8", "replace")], observed_ns)
            stream.flush(observed_ns, force=True)
            payload, _ = stream.take()
        finally:
            stream.close()
        out: dict[str, Any] = {}
        for resource in LogsData.FromString(payload).resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    out.update({a.key: _plain(a.value) for a in record.attributes})
        return out


def _plain(value: Any) -> Any:
    """An AnyValue as Python data."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(v) for v in value.array_value.values]
    if kind == "kvlist_value":
        return {kv.key: _plain(kv.value) for kv in value.kvlist_value.values}
    return getattr(value, kind) if kind else None
