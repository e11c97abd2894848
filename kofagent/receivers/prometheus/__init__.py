"""Prometheus receiver: scrapes targets with Prometheus' own configuration and hands over columns of interned series.

Promises what Prometheus promises: a target is scraped at its own moment of every interval whatever the backends do; a page
is all or nothing, a failed one is `up 0` with its reason at `/api/v1/targets` and in the log; series that end get a
staleness marker. A scrape nobody takes is dropped and counted (`refused: ...`, `backlog`).

Spec: prometheus.io/docs/prometheus/latest/configuration/configuration (scrape_config), receiver/prometheusreceiver of the
OpenTelemetry Collector. Not here: the protobuf format and with it native histograms; discovery other than static, file, HTTP and
Kubernetes reports at start that its job finds nothing. Own blocks: `monitors` (ServiceMonitors and the like become jobs) and
`allocation` (which agent scrapes which target); see kofagent.prometheus.monitors and kofagent.prometheus.allocation.
"""

from kofagent.receivers.prometheus.receiver import PrometheusReceiver

COMPONENT = PrometheusReceiver
