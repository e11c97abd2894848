"""hostmetrics receiver: CPU, memory, disks, file systems, network, processes of the machine, as upstream's receiver names them.

Promises: one batch per collection with what could be read; what could not is counted per scraper
(`otelcol_scraper_errored_metric_points_total`) and logged once. Reading never blocks the event loop. A refused batch is
counted as dropped: the next collection has newer values. On Linux everything is read under `root_path`.
Names, units and defaults: opentelemetry-collector-contrib 0.160, receiver/hostmetricsreceiver.
"""

from kofagent.receivers.hostmetrics.receiver import HostMetrics

COMPONENT = HostMetrics
