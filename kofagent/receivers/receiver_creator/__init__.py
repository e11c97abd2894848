"""`receiver_creator`: starts other receivers for endpoints that observers find: files of a container, a port, a service.

Upstream: receiver/receivercreator of the collector's contrib. `rule` says for which endpoints a receiver is started, expressions in
backticks in its `config` and `resource_attributes` are filled from the endpoint: ``/var/log/pods/`pod.namespace`_...``. An option
`endpoint` that is not set gets the endpoint's address. Receivers are started, restarted and stopped as endpoints come, change and
go, each for itself: one that cannot start is named in the log and the status, tried again, and stops no other. What they bring in
is counted under `TYPE/NAME/receiver_creator`, by entry of `receivers`, not by endpoint. Names and options of the receivers are
checked when the configuration is loaded, with made-up endpoints in place of the backticks.

With `discovery.enabled` annotations of pods start receivers, too: `io.opentelemetry.discovery.logs[.CONTAINER]/enabled: "true"`
reads the files of the pod's containers with default options, in place of the rules; `.../metrics[.PORT]/enabled` and `/scraper`
start a scraper of the pod's port. `/config` may change options, and what may be asked for is limited: the files and the address
are the pod's own, the only scraper is httpcheck unless `allow_receivers` names more (such as postgresql, where pods are trusted),
and options that name credentials, files of the agent or extensions are refused. A redirect of the pod to another server is not
followed.

Upstream loses lines of containers; here, for receivers of files (`filelog`) with rules on `pod.container`:

- A container that came while the agent runs is read from its beginning; `start_at` is for what was there when the agent started.
  With `storage` that is the agent's first start: what came while it was down is read as well.
- Init containers, ended containers, and pods that are over before they are seen are read (see `k8s_observer`).
- When a pod is gone its files are read to their ends before the receiver stops.
- All receivers of one `storage` keep their offsets in one store, and those of pods that are gone are removed.
"""

from kofagent.receivers.receiver_creator.receiver import ReceiverCreator

COMPONENT = ReceiverCreator
