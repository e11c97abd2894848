"""`zipkin`: takes spans from Zipkin's reporters over HTTP.

POST /api/v2/spans as JSON or protobuf, /api/v1/spans as JSON or Thrift; any other path is taken for version 2, as upstream has it.
202 when the spans are owned. A request that cannot be decoded is 400 as a whole; one that the pipeline does not take is 500, as
upstream has it, with Retry-After. Tags become attributes (numbers and booleans with `parse_string_tags`), those of the resource by
their names, the rest as in upstream's translator. Upstream: receiver/zipkinreceiver, pkg/translator/zipkin.
"""

from kofagent.receivers.zipkin.receiver import ZipkinReceiver

COMPONENT = ZipkinReceiver
