"""`k8s_observer`: endpoints of a cluster for `receiver_creator`: pods, their containers and ports, services, ingresses, nodes.

Upstream: extension/observer/k8sobserver of the collector's contrib, with its types, identifiers and names. One watch of each
resource is shared with everything else in the agent that reads the same.

Receivers of files are told more than upstream tells, so that no line of a container is lost: init and ephemeral containers,
containers that have ended, and pods that were over and deleted before the API told of them, which are found as folders below
`log_directory`. For them a static pod has the uid that its folder is named by. They are told only of what is on this node: the
one that `node` names, or the environment (`OTEL_K8S_NODE_NAME`, `K8S_NODE_NAME`), or else the pods that have a folder here.
Setting `observe_pod_phases` or `observe_init_containers` says for them, too, what is observed. When the API server has not been
heard of for 30 s they are told of the folders alone.

The agent needs the verbs list and watch on the resources that are observed. An endpoint of an ended container has no ports.
"""

from kofagent.extensions.k8s_observer.extension import K8sObserver

COMPONENT = K8sObserver
