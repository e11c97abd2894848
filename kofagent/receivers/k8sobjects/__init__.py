"""k8sobjects: objects of the cluster, pulled or watched, as log records. Upstream: receiver/k8sobjectsreceiver.

`pull` lists every `interval` and sends each object as a record whose body is the object; `watch` sends each change as a record
whose body is `{type, object}`. The namespace is the resource. A watch begins at the present, at `resource_version`, or with what
exists (`include_initial_state`); with `storage` it goes on where it was. Nothing is lost or repeated when a watch ends, the API
server forgets versions (410) or restarts, or the agent restarts with `storage` (after a crash the last batch may come again);
only deletions and states in between, which happened while the API forgot, are not known to anybody.

A resource that the API server does not serve: `error_mode` propagate fails the start, ignore and silent go on without it. An API
server that cannot be reached, or an object that may not be read, is the component's status and tried again.
"""

from kofagent.receivers.k8sobjects.receiver import K8sObjects

COMPONENT = K8sObjects
