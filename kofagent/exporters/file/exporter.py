"""The exporter `file`; see the package's docstring for what it promises."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kofagent.component.protocols import Context, Exporter, StartError
from kofagent.exporters.file.config import Config
from kofagent.exporters.file.writer import Rotation, Writer
from kofagent.memory.memo import Memo
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.ledger import ExporterAccount
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp, otlp_json
from kofagent.wire.attributes import decode_attributes
from kofagent.wire.lens import lenses, parse
from kofagent.wire.varint import length_delimited

_Resource = lenses("kofagent.file", {"Resource": {"attributes": (1, "*bytes")}})["Resource"]


MAX_SEEN = 20_000


def _line(message: bytes) -> bytes:
    return message + b"\n"


def _framed(message: bytes) -> bytes:
    return struct.pack(">I", len(message)) + message


class FileExporter(Exporter[Config]):
    """Writes batches; see the module."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._accounts: dict[Signal, ExporterAccount] = {s: context.ledger.exporter(context.id, s) for s in Signal}
        self._encode = _framed if config.format == "proto" else _line
        self._compress: Callable[[bytes], bytes] | None = None
        if config.compression == "zstd":
            import zstandard

            level = config.compression_params.get("level", 3)
            self._compress = lambda data: zstandard.ZstdCompressor(level=level).compress(data)
        rotation = config.rotation
        self._rotation = (
            None
            if rotation is None or config.group_by.enabled
            else Rotation((rotation.max_megabytes or 100) << 20, rotation.max_days, rotation.max_backups, rotation.localtime)
        )
        self._writers: OrderedDict[str, Writer] = OrderedDict()
        self._seen: Memo[str, bool] = Memo("file.seen", entries=MAX_SEEN, size=8 << 20, dropped=self._forgot)
        self._forgotten = False
        # One thread does all the file work, in order: also of callers that were cancelled while it was under way.
        self._thread: ThreadPoolExecutor | None = None
        self._flusher: asyncio.Task[None] | None = None
        self._failing = False

    async def start(self) -> None:
        """Creates the directory if configured, and opens the file."""
        if self.config.group_by.enabled and self.config.rotation is not None:
            self.context.log.warning("rotation is ignored with group_by")
        try:
            await self._in_thread(self._open)
        except OSError as error:
            raise StartError(
                f"path: {error.filename or self.config.path}: {error.strerror}; name a writable file"
                + ("" if self.config.create_directory or error.errno != errno.ENOENT else ", or set create_directory: true")
            ) from None
        if self.config.flush_interval:
            self._flusher = asyncio.create_task(self._flush_often())

    def _open(self) -> None:
        if self.config.create_directory:
            folder = os.path.dirname(self.config.path.split("*")[0]) or "."
            os.makedirs(folder, int(self.config.directory_permissions, 8), exist_ok=True)
        if not self.config.group_by.enabled:
            self._writer(self.config.path).open()

    async def stop(self) -> None:
        """Syncs and closes all files."""
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
            self._flusher = None
        if self._thread is not None:
            await self._in_thread(self._close)
            self._thread.shutdown()
            self._thread = None

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=self.context.id)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _close(self) -> None:
        self._flush()
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _flush(self) -> None:
        for writer in self._writers.values():
            if writer.dirty:
                try:
                    writer.flush()
                except OSError as error:
                    self.context.log.warning("%s: %s", writer.path, error.strerror)

    async def consume(self, batch: Batch) -> None:
        """Returns when the batch is in the file; Refused when it could not be written."""
        account = self._accounts[batch.signal]
        try:
            lost = await self._in_thread(self._write, batch)
        except ValueError:
            account.send_failed(batch.count)
            self.context.ledger.dropped(self.context.id, batch.signal, "malformed", batch.count)
            raise Refused("malformed", "the batch cannot be decoded", permanent=True) from None
        except OSError as error:
            account.send_failed(batch.count)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            refused = Refused(
                "disk full" if full else "cannot write", f"{error.filename or self.config.path}: {error.strerror}", retry_after=1
            )
            self.context.report(str(refused))
            if not self._failing:
                self._failing = True
                self.context.log.warning("%s", refused)
            raise refused from None
        if self._failing:
            self._failing = False
            self.context.report(None)
            self.context.log.info("writing again")
        if lost:
            self.context.ledger.dropped(self.context.id, batch.signal, "no path attribute", lost)
        account.sent(batch.count - lost)

    def _write(self, batch: Batch) -> int:
        """Writes the batch, all of it or nothing; how many items have no place to go."""
        items = 0
        written: list[tuple[Writer, int]] = []
        try:
            for path, payload in self._parts(batch):
                if self.config.group_by.enabled or self.config.format == "proto":
                    items += otlp.count(batch.signal.value, payload)
                message = otlp_json.from_protobuf(batch.signal.value, payload) if self.config.format == "json" else payload
                data = self._encode(message)
                writer = self._writer(path)
                written.append((writer, writer.write(data if self._compress is None else self._compress(data))))
        except (OSError, ValueError):
            for writer, start in reversed(written):
                writer.take_back(start)
            raise
        return max(0, batch.count - items) if self.config.group_by.enabled else 0

    def _parts(self, batch: Batch) -> Iterator[tuple[str, bytes]]:
        if not self.config.group_by.enabled:
            yield self.config.path, batch.payload
            return
        groups: dict[str, list[bytes]] = {}
        for entry in otlp.resources(batch.payload):
            value = decode_attributes(parse(_Resource, entry.resource).attributes).get(self.config.group_by.resource_attribute)
            if not isinstance(value, str):
                continue
            message: Any = entry
            groups.setdefault(self._path(value), []).append(length_delimited(1, message.SerializeToString()))
        for path, parts in groups.items():
            yield path, b"".join(parts)

    def _path(self, segment: str) -> str:
        """The path with the segment in it; whatever the segment says, it stays below the directory before the `*`."""
        before, _, after = self.config.path.partition("*")
        parts = [re.sub(r"[\x00-\x1f]", "_", p) for p in segment.replace("\\", "/").split("/") if p not in ("", ".", "..")]
        clean = "/".join(p.encode("utf-8", "replace")[:200].decode("utf-8", "ignore") for p in parts[:8])
        return before + (clean or "_") + after

    def _writer(self, path: str) -> Writer:
        writer = self._writers.get(path)
        if writer is None:
            # A file that was open before is never truncated: its data is ours, as may be that of any file when some are forgotten.
            append = self.config.append or self._forgotten or self._seen.find(path) is not None
            writer = Writer(path, append=append, rotation=self._rotation)
            if self.config.group_by.enabled:
                os.makedirs(os.path.dirname(path) or ".", int(self.config.directory_permissions, 8), exist_ok=True)
            while len(self._writers) >= self.config.group_by.max_open_files:
                _path, oldest = self._writers.popitem(last=False)
                oldest.flush()
                oldest.close()
            self._writers[path] = writer
            self._seen[path] = True
        self._writers.move_to_end(path)
        return writer

    def _forgot(self, paths: Mapping[str, bool]) -> None:
        self._forgotten = True

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(self.config.flush_interval)
            if any(writer.dirty for writer in list(self._writers.values())):
                await self._in_thread(self._flush)
