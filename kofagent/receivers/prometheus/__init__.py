"""`prometheus`: scrapes targets with Prometheus' own configuration and sends interned series as columns.

As in Prometheus, a target is scraped at its own moment of every interval, whatever the backends do. A page counts as a whole: one
that fails is `up 0`, with the reason at `/api/v1/targets` and in the log. Series that end get a staleness marker. A line of more
than 4096 labels or 1 MiB fails its page, whatever the limits are: it would delay everything else. A scrape that is not taken is
dropped and counted, with the reason of the refusal, or `backlog` when too many scrapes of the target are waiting already.
`target_info` on a page describes its target, for remote write and OTLP alike. As OTLP, a histogram or summary that contradicts
itself is left out and counted (`inconsistent histogram`); remote write sends its samples as they are.

Specification: prometheus.io/docs/prometheus/latest/configuration/configuration (scrape_config), receiver/prometheusreceiver of
the OpenTelemetry Collector. Not supported: the protobuf format, and with it native histograms; a job with a discovery other
than static, file, HTTP or Kubernetes finds no targets, and the agent says so at the start. Options that upstream does not have:
`monitors` (ServiceMonitors and similar objects become jobs) and `allocation` (which agent scrapes which target); see
kofagent.prometheus.monitors and kofagent.prometheus.allocation.
"""

from kofagent.receivers.prometheus.receiver import PrometheusReceiver

COMPONENT = PrometheusReceiver
