"""`k8s_leader_elector`: elects one of several replicas, through a Lease of the Kubernetes API.

Upstream: extension/k8sleaderelector of the collector's contrib. Receivers that name it with `k8s_leader_elector` (`k8s_cluster`,
`k8s_events`, `k8sobjects`) collect while this replica leads, and are idle otherwise. A replica leads once it has written its name
into the Lease, and no longer when it could not renew that within `renew_deadline`; another takes over when it was not renewed for
`lease_duration`, measured by its own clock. A replica that stops gives the Lease back, so that the next one need not wait.

Collectors that run in one process and name the same Lease, with the same options, are one holder of it.

The agent needs the verbs get, create and update on leases of the group coordination.k8s.io in `lease_namespace`. While the API
server cannot be reached nobody leads after `renew_deadline`, and the status says so.
"""

from kofagent.extensions.k8s_leader_elector.extension import LeaderElectorExtension

COMPONENT = LeaderElectorExtension
