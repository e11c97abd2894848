"""k8s_cluster: the state of a cluster's objects as metrics, and in logs pipelines as entity events.

Promises: what the informers hold is sent every `collection_interval` with upstream's names, units, values and resource
attributes (receiver/k8sclusterreceiver 0.149); a change of an object is told as an entity event at once, all objects again every
`metadata_collection_interval`. Without the API server it goes on with what it knows, says so in its status, and the informers try
again. A kind of object that may not be read is named in one error; the other kinds go on.
"""

from kofagent.receivers.k8s_cluster.receiver import K8sCluster

COMPONENT = K8sCluster
