"""kubeletstats: what a kubelet measures of its node, pods, containers and volumes.

Promises: every `collection_interval` the values of the kubelet's `/stats/summary` are sent as they are there, with upstream's
names, units and resource attributes (receiver/kubeletstatsreceiver 0.149). A kubelet that does not answer, or answers only in part,
is said in the status and logged once; what could be read is sent, the rest counted (`otelcol_scraper_errored_metric_points`).
"""

from kofagent.receivers.kubeletstats.receiver import KubeletStats

COMPONENT = KubeletStats
