"""`kubeletstats`: sends what a kubelet measures about its node, pods, containers and volumes.

Every `collection_interval` the values of the kubelet's `/stats/summary` are sent unchanged, with upstream's names, units and
resource attributes (receiver/kubeletstatsreceiver 0.149). When a kubelet does not answer, or answers only in part, the status
says so and it is logged once; what could be read is sent and the rest is counted (`otelcol_scraper_errored_metric_points`).
"""

from kofagent.receivers.kubeletstats.receiver import KubeletStats

COMPONENT = KubeletStats
