"""`prometheusremotewrite`: sends metrics with Prometheus remote write 1.0 (prometheus.io/docs/specs/prw/remote_write_spec).

Promises: the samples of a series arrive in the order they came, since one request is under way at a time; labels are sorted,
unique and never empty; a batch is delivered when the backend answered 2xx to all its requests. 5xx, 429 and broken
connections are retried with backoff, not before a Retry-After; any other 4xx is final, unless
`retry_on_failure.retryable_statuses` has it: these samples are dropped (with 400 only those for which it is) and counted with the
reason `http <status>`, and what the backend said is logged. Only a request that is too large for the
backend (413) is sent again in halves, and later ones are made as small; a series too large by itself is dropped. Scraped samples
keep their names and labels; OTLP metrics are translated by the OpenTelemetry specification for Prometheus. Points that remote
write cannot carry (delta temporality, ...) are counted as dropped with their reason.

`sending_queue.storage`, or `wal`, keeps the queue on disk: finished requests, compressed, so that labels, values and times
are sent as they were when the data came, in order, also after a restart.
"""

from kofagent.exporters.prometheusremotewrite.exporter import PrometheusRemoteWrite

COMPONENT = PrometheusRemoteWrite
