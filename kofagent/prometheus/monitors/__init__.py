"""ServiceMonitor, PodMonitor, Probe and ScrapeConfig objects (monitoring.coreos.com) as scrape jobs, without an operator.

The jobs are those that prometheus-operator generates (names, labels, order of the rules), with service discovery by EndpointSlice.
Rules for sharding are left out: which agent scrapes a target is decided by `kofagent.prometheus.allocation`.
"""
