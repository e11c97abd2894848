"""`hostmetrics`: sends metrics of the machine: CPU, memory, disks, file systems, network and processes.

Each collection is one batch with everything that could be read; what could not be read is counted per scraper
(`otelcol_scraper_errored_metric_points_total`) and logged once. Reading never blocks the event loop. A refused batch is counted as
dropped, because the next collection has newer values. On Linux everything is read under `root_path`.
Names, units and defaults: opentelemetry-collector-contrib 0.160, receiver/hostmetricsreceiver.
"""

from kofagent.receivers.hostmetrics.receiver import HostMetrics

COMPONENT = HostMetrics
