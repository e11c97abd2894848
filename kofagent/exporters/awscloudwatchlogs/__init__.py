"""`awscloudwatchlogs`: sends log records to Amazon CloudWatch Logs (PutLogEvents, API 2014-03-28).

Upstream: exporter/awscloudwatchlogsexporter of the collector's contrib; the same options and the same JSON message (`events`).
Group and stream are created when the service says that they do not exist, also when they are deleted later; retention
and tags are set on groups that the exporter creates. Events older than 14 days or more than 2 hours ahead are dropped, counted
(`too old`, `too new`), as are those the service rejects (`expired` too) and records without a message (`empty message`).
A message longer than `max_event_payload_bytes`, by default what CloudWatch accepts, is shortened, counted in
`kofagent_truncated_items_total`; a text body is cut so that the JSON around it stays whole.

Throttling, unavailability and missing permissions are retried; an invalid request is dropped, counted. A call
that is too large (for a proxy, say) is made again in halves; an event too large by itself is dropped. Where a batch needs several
calls and one fails, the next attempt continues after the last call that succeeded.

Credentials are botocore's default chain; they are never logged. The environment's AWS_ENDPOINT_URL_CLOUDWATCH_LOGS and
AWS_ENDPOINT_URL are obeyed when `endpoint` is not set.
"""

from kofagent.exporters.awscloudwatchlogs.exporter import CloudWatchLogsExporter

COMPONENT = CloudWatchLogsExporter
