"""k8s_events: the cluster's events as log records. Upstream: receiver/k8seventsreceiver.

Every event and every update of one (a higher count) is one record: body is the message, severity comes from the type, the object
it is about is the resource. Events from before the start are left out, unless `storage` keeps a position: then everything since
the position comes. Nothing is lost or repeated when a watch ends, the API server forgets versions (410) or restarts, or the
agent restarts with `storage` (after a crash the last batch may come again). Deletions of events (the API server deletes them
after an hour) are no events. An API server that cannot be reached is the component's status and tried again from 1 s to 30 s.

Run one instance per cluster; `k8s_leader_elector` is accepted without effect.
"""

from kofagent.receivers.k8s_events.receiver import K8sEvents

COMPONENT = K8sEvents
