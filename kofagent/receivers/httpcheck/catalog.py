"""The metrics of `httpcheck`: name, unit, kind and whether they are on by default, as upstream's metadata has them."""

from __future__ import annotations

from kofagent.transform.otlp_metrics import Metric

SCOPE = "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/httpcheckreceiver"

DURATION = Metric("httpcheck.duration", "ms", "Duration of the check.", "gauge")
ERROR = Metric("httpcheck.error", "{error}", "Errors of the check.", "sum")
STATUS = Metric("httpcheck.status", "1", "1 if the status of the answer is of the class, otherwise 0.", "sum")
DNS = Metric("httpcheck.dns.lookup.duration", "ms", "Time to look up the name of the server.", "gauge")
CONNECTION = Metric("httpcheck.client.connection.duration", "ms", "Time to connect to the server.", "gauge")
HANDSHAKE = Metric("httpcheck.tls.handshake.duration", "ms", "Duration of the TLS handshake.", "gauge")
REQUEST = Metric("httpcheck.client.request.duration", "ms", "Time until the request was sent.", "gauge")
RESPONSE = Metric("httpcheck.response.duration", "ms", "Time to receive the answer.", "gauge")
SIZE = Metric("httpcheck.response.size", "By", "Size of the body of the answer.", "gauge")
REMAINING = Metric(
    "httpcheck.tls.cert_remaining", "s", "Time until the certificate of the server expires; negative: since then.", "gauge"
)
PASSED = Metric("httpcheck.validation.passed", "{validation}", "Validations of the answer that passed.", "sum")
FAILED = Metric("httpcheck.validation.failed", "{validation}", "Validations of the answer that failed.", "sum")

_ON = (DURATION, ERROR, STATUS)
_OFF = (DNS, CONNECTION, HANDSHAKE, REQUEST, RESPONSE, SIZE, REMAINING, PASSED, FAILED)
DEFAULTS: dict[str, bool] = {metric.name: metric in _ON for metric in (*_ON, *_OFF)}
"""Whether a metric is on by default, by name."""
