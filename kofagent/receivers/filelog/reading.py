"""What all files of a receiver share: its options, worked out once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from kofagent.operators.chain import Chain
from kofagent.receivers.filelog.config import Config
from kofagent.receivers.filelog.confine import Confinement
from kofagent.receivers.filelog.encodings import Encoding, lookup
from kofagent.receivers.filelog.header import Header
from kofagent.receivers.filelog.splitting import Clean, Limit, Lines, make_splitter, trimmer


class Reading:
    """How the bytes of files become entries. `chain` compiles operators."""

    def __init__(self, config: Config, chain: Callable[[list[dict[str, Any]]], Chain]) -> None:
        self.config = config
        self.chain = chain(config.operators)
        self.confinement = Confinement(config.include, config.link_targets)
        self._make_chain = chain
        self.header: Header | None = None
        self._decode(lookup(config.encoding))
        self._other: Reading | None = None
        if self.encoding.other is not None:
            self._other = copy.copy(self)
            self._other._decode(self.encoding.other)

    def of_mark(self, head: bytes) -> Reading:
        """How a file is read that begins with these bytes: where the encoding does not say the order of bytes, the file may."""
        return self if self._other is None or self.encoding.of_mark(head) is self.encoding else self._other

    def _decode(self, encoding: Encoding) -> None:
        config = self.config
        self.encoding = encoding
        self.splitter = make_splitter(config, self.encoding)
        self.limit = Limit(config.max_log_size, config.max_log_size_behavior == "truncate", self.encoding)
        leading, trailing = config.preserve_leading_whitespaces, config.preserve_trailing_whitespaces
        if self.encoding.whole:
            leading = trailing = True
        containers = bool(config.operators) and config.operators[0].get("type") == "container"
        self.trim = trimmer(leading, trailing, containers)
        self.clean = Clean(leading, trailing, containers)
        if config.header is not None:
            self.header = Header(config.header, encoding, self._make_chain)
        self.extras = config.include_file_record_number or config.include_file_record_offset or self.encoding.whole
        self.utf8 = self.encoding.utf8 and self.encoding.replace
        """True when the operators are given the bytes as they are: they know what is part of a character."""
        self.multiline = not isinstance(self.splitter, Lines) and not self.encoding.whole
        """True when an entry may go on in the next file of its path."""
        self.by_line = isinstance(self.splitter, Lines) and not self.extras
        """True when a chunk of lines can go to the operators as it is."""
