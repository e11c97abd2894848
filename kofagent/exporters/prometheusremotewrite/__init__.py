"""`prometheusremotewrite`: sends metrics with Prometheus remote write 1.0 (prometheus.io/docs/specs/prw/remote_write_spec).

Promises: the samples of a series arrive in the order they came, since one request is under way at a time; labels are sorted,
unique and never empty; a batch is delivered when the backend answered 2xx to all its requests. 5xx, 429 and broken
connections are retried with backoff, not before a Retry-After; any other 4xx is final, unless
`retry_on_failure.retryable_statuses` has it: these samples are dropped (with 400 only those for which it is) and counted with the
reason `http <status>`, and what the backend said is logged. Only a request that is too large for the
backend (413) is sent again in halves, and later ones are made as small; a series too large by itself is dropped. Scraped samples
keep their names and labels; OTLP metrics are translated by the OpenTelemetry specification for Prometheus. Points that remote
write cannot carry (delta temporality, ...) are counted as dropped with their reason. So are histograms and summaries of OTLP
whose parts contradict each other (`inconsistent histogram`): bounds that do not rise or are no numbers, counts that do not fit the
bounds or do not add up, quantiles twice or outside of 0 to 1. The Go collector sends them; Prometheus refuses the whole request for
some, and calculates garbage from others. What can be understood in one way only is repaired: a bound +Inf that is listed, a last
count that is not, values that are counted but in no bucket, bounds without counts.

`target_info` of a scraped target ends with a staleness marker when the target is gone. That of a resource that sends OTLP does not:
nothing in OTLP says that a resource is over, and a guess would end it between two exports of a slow sender. It has the time of the
resource's newest point and is found for as long after that as queries look back (5 minutes by default), as with the Go collector
and Prometheus' own OTLP receiver, which end it neither.

`sending_queue.storage`, or `wal`, keeps the queue on disk: finished requests, compressed, so that labels, values and times
are sent as they were when the data came, in order, also after a restart.
"""

from kofagent.exporters.prometheusremotewrite.exporter import PrometheusRemoteWrite

COMPONENT = PrometheusRemoteWrite
