"""`otlp`: telemetry over OTLP/gRPC and OTLP/HTTP (protobuf and JSON), opentelemetry-proto v1 and its specification.

A request is answered when somebody downstream owns its data; what is refused is answered so that the sender keeps it
(UNAVAILABLE, 503 with the time to wait) or gives it up (INVALID_ARGUMENT, 400). Every payload is checked whole and passed on as
the bytes that came in. Sizes are limited after decompression: `max_recv_msg_size_mib`, `max_request_body_size`, and
`max_in_flight_size` for all requests together. A signal that no pipeline takes from this receiver is not served: 404,
UNIMPLEMENTED. What is malformed is counted in `kofagent_receiver_rejected_requests_total{reason}` and logged once.
"""

from kofagent.receivers.otlp.receiver import OtlpReceiver

COMPONENT = OtlpReceiver
