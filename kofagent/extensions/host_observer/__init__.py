"""`host_observer`: ports that processes of this machine listen on, for `receiver_creator`.

Upstream: extension/observer/hostobserver of the collector's contrib, with its identifiers and names. Endpoints have the type
`hostport`: TCP sockets that listen, and UDP sockets without a peer. The process is known where the agent may read its files in
/proc: with the same user, or as root; else its name and command are empty. What listens on all addresses is reached under the
loopback address. A port that several processes share is one endpoint for each.
"""

from kofagent.extensions.host_observer.extension import HostObserver

COMPONENT = HostObserver
