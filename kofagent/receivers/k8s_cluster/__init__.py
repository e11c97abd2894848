"""`k8s_cluster`: sends the state of a cluster's objects as metrics, and as entity events in logs pipelines.

Every `collection_interval` the current state is sent with upstream's names, units, values and resource attributes
(receiver/k8sclusterreceiver 0.149). A change of an object is sent as an entity event at once, and all objects again every
`metadata_collection_interval`. Without the API server the receiver continues with what it knows, its status says so, and it tries
again. If access to a kind of object is denied, one error names it; the other kinds are still sent.
"""

from kofagent.receivers.k8s_cluster.receiver import K8sCluster

COMPONENT = K8sCluster
