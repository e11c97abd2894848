"""`debug`: prints what arrives, for people to read. Upstream: exporter/debugexporter of the OpenTelemetry Collector (0.160).

`basic` prints one line per batch with counts and decodes nothing, `normal` adds a line per item, `detailed` the whole tree.
Sampling follows zap's rule, decided once per batch and signal: the first `sampling_initial` batches of each second are
printed, then every `sampling_thereafter`-th (0: none). Every batch counts as sent, printed or not.

The start fails when an output path cannot be opened. A write that fails later (a full disk, a closed pipe) is reported once
and does not hold up the pipeline.
"""

from kofagent.exporters.debug.exporter import DebugExporter

COMPONENT = DebugExporter
