"""`file`: writes telemetry to files, one OTLP message per batch. Upstream: exporter/fileexporter of the collector's contrib.

`format: json` writes OTLP/JSON (ids in hex, names in camel case), one request a line. `format: proto` puts the length in
front of every message: 4 bytes, big endian. With `compression: zstd` every message, with its newline or its length, is a frame of
its own, so that the file is one that `zstd -d` reads, also while it grows; upstream writes so with the feature gate
exporter.file.nativeCompression, and otherwise lengths between the frames, which no tool reads.
With `group_by.enabled` the `*` in `path` is replaced by a resource attribute, sanitized so that the file stays below the directory;
resources without it are dropped, counted (`no path attribute`), and `rotation` is ignored, all as upstream does.

A batch is accepted once it is written to the file. When the disk is full the batch is refused (`disk full`; the caller may
offer it again), no partial message is left in the file, and the exporter recovers when there is space again. `encoding` (an
encoding extension) is not supported. Unlike upstream, nothing is buffered: `flush_interval` says how often files are synced
to the disk.
A grouped batch is written to all of its files or to none: what was written before one of them failed is taken back.
"""

from kofagent.exporters.file.exporter import FileExporter

COMPONENT = FileExporter
