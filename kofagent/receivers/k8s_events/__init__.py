"""`k8s_events`: sends the cluster's events as log records.

Upstream: receiver/k8seventsreceiver. Every event and every update of one (a higher count) becomes one record: the body is the
message, the severity comes from the type, and the resource is the object that the event is about. Events from before the start are
left out unless `storage` keeps a position; then everything after that position is sent.

Nothing is lost or repeated when a watch ends, when the API server forgets versions (410) or restarts, or when the agent restarts
with `storage` (after a crash the last batch may be sent twice). Deletions of events (the API server deletes them after an hour) are
not sent. While the API server cannot be reached, the component's status says so and the receiver tries again after 1 s to 30 s. Run
one instance per cluster, or several with `k8s_leader_elector`.
"""

from kofagent.receivers.k8s_events.receiver import K8sEvents

COMPONENT = K8sEvents
