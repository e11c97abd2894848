"""`otlp`: receives telemetry over OTLP/gRPC and OTLP/HTTP (protobuf and JSON).

Specification: opentelemetry-proto v1 and the OTLP specification. A request is answered when a component downstream owns its data.
A refusal tells the client either to keep the data (UNAVAILABLE, or 503, with the time to wait) or to give it up
(INVALID_ARGUMENT, 400). Every payload is checked completely, since a backend may refuse all that is sent with it: a malformed one,
or one with a trace or span id of a wrong length, is refused; strings that are not UTF-8 are repaired (U+FFFD) and counted in
`kofagent_receiver_repaired_strings_total`. What has no fault is passed on unchanged. Sizes are limited after decompression:
`max_recv_msg_size_mib`, `max_request_body_size`, and `max_in_flight_size` for all requests together. A signal without a
pipeline is not served: 404, UNIMPLEMENTED. Malformed requests are counted in
`kofagent_receiver_rejected_requests_total{reason}` and logged once.
"""

from kofagent.receivers.otlp.receiver import OtlpReceiver

COMPONENT = OtlpReceiver
