"""`k8sobjects`: sends objects of the cluster, pulled or watched, as log records.

Upstream: receiver/k8sobjectsreceiver. `pull` lists the objects every `interval` and sends each one as a record whose body is
the object; `watch` sends each change as a record whose body is `{type, object}`. The resource has the namespace. A watch begins
with the present state, at `resource_version`, or with all existing objects (`include_initial_state`); with `storage` it
continues where it stopped.

Nothing is lost or repeated when a watch ends, when the API server forgets versions (410) or restarts, or when the agent
restarts with `storage` (after a crash the last batch may be sent twice). Only deletions and intermediate states that the API
server has forgotten are missing. If the API server does not serve a resource, `error_mode: propagate` makes the start fail;
`ignore` and `silent` continue without that resource. While the API server cannot be reached, or denies access to an object, the
component's status says so and the receiver tries again.
"""

from kofagent.receivers.k8sobjects.receiver import K8sObjects

COMPONENT = K8sObjects
