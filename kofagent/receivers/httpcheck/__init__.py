"""`httpcheck`: asks HTTP servers on a timer and sends whether, how fast and with what status they answer.

Upstream: receiver/httpcheckreceiver of the collector's contrib. Every endpoint has a timer of its own: one that is slow delays
no other; at most 50 are asked at the same time. Redirects are followed. An endpoint that does not answer is a point of
`httpcheck.error` with the reason, and 0 in all classes of `httpcheck.status`. The attribute `http.url` has no login.

On by default: `httpcheck.status`, `httpcheck.duration` (ms) and `httpcheck.error`. Off: `httpcheck.dns.lookup.duration`,
`httpcheck.client.connection.duration`, `httpcheck.tls.handshake.duration`, `httpcheck.client.request.duration` and
`httpcheck.response.duration` (ms), `httpcheck.response.size` (bytes), `httpcheck.tls.cert_remaining` (s),
`httpcheck.validation.passed` and `httpcheck.validation.failed`.

The first MiB of a body is read for `validations` and `httpcheck.response.size`. Of a longer one the size is not sent, there is an
`httpcheck.error`, and what was to be found in its text counts as failed. As upstream, an empty body is not validated, and
`httpcheck.client.request.duration` includes what it took to connect. Other than upstream's, `httpcheck.response.duration` goes on
until the end of the body, or of what is read of it.
"""

from kofagent.receivers.httpcheck.receiver import HttpCheck

COMPONENT = HttpCheck
