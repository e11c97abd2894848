"""`jaeger`: takes spans from Jaeger's clients and agents.

Protocols, each served when it is named: `grpc` (model.proto, CollectorService/PostSpans), `thrift_http` (POST /api/traces, Thrift
binary), `thrift_compact` and `thrift_binary` (the agent's UDP ports). A client over gRPC or HTTP is told when its spans are not
taken, as with `otlp`. Datagrams have no answer: they wait, up to `queue_size` of them, while the pipeline takes nothing; what comes
beyond that is dropped and counted. Tags become attributes, kind, status, trace state and scope as in upstream's translator,
references the parent and links, logs events. Upstream: receiver/jaegerreceiver, pkg/translator/jaeger.
"""

from kofagent.receivers.jaeger.receiver import JaegerReceiver

COMPONENT = JaegerReceiver
