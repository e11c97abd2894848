"""Why items are refused or dropped: every value that the label `reason` of `kofagent_dropped_items_total` can have.

A closed list, so that dashboards and alerts can name what they are about; `Refused`, the ledger and the requests a receiver
rejects all use it. A reason that is not listed is a mistake in the code: it is counted as it is and logged once.
"""

from __future__ import annotations

import logging
import re

log = logging.getLogger("kofagent.reasons")

REASONS: dict[str, str] = {
    # on the way through the agent
    "malformed": "The payload, or the object that was read, cannot be decoded.",
    "internal error": "A defect in the agent; the traceback is in its log.",
    "shutdown": "The agent or the component was stopped before the data was taken.",
    "backlog": "The receiver holds its maximum of data that slow pipelines have not taken yet.",
    "memory limit": "The process uses more memory than `memory_limiter` allows.",
    "metadata cardinality limit": "`batch` has more combinations of `metadata_keys` than its limit.",
    "condition error": "A condition could not be evaluated and `error_mode` is `propagate`.",
    "evicted": "More traces wait for a decision than `num_traces`, so the oldest had to go.",
    # between the agent and a backend
    "sending queue full": "The sending queue is full.",
    "memory budget used up": "All queues together use their whole memory budget.",
    "queue on disk": "The queue on disk cannot be written or read.",
    "queue on disk damaged": "Data in the queue on disk is damaged.",
    "oldest dropped": "The queue on disk is full, and `storage_when_full` is `drop_oldest`.",
    "connection": "The backend cannot be reached, or the connection broke.",
    "timeout": "The backend did not answer in time.",
    "tls": "The TLS handshake failed.",
    "bad url": "The URL is not valid.",
    "no endpoint": "No endpoint is configured for this signal.",
    "partial success": "The backend took the request but rejected some of its items.",
    "disk full": "The disk, or the quota, is full.",
    "cannot write": "A file cannot be written.",
    "no path attribute": "The resource does not have the attribute that names the file.",
    # scraped samples
    "namespace series budget": "The targets of the namespace have as many series as `series_budget` allows.",
    # histograms from scraped samples to OTLP, and from OTLP to remote write
    "inconsistent histogram": "The parts of a histogram or summary contradict each other, such as counts that do not add up.",
    # remote write
    "delta temporality": "Remote write does not support delta temporality.",
    "unknown temporality": "The temporality of the metric is unknown.",
    "unusable metric name": "The name of the metric has no letter or digit.",
    "undecodable point": "A data point cannot be decoded.",
    "undecodable attributes": "The attributes of a data point cannot be decoded.",
    "no timestamp": "A data point does not have a timestamp.",
    "histogram scale below -4": "The scale of an exponential histogram is too coarse for Prometheus.",
    # CloudWatch
    "throttled": "The service throttles requests.",
    "service unavailable": "The service is unavailable.",
    "access denied": "The credentials do not allow the call.",
    "no such stream": "The log group or stream does not exist.",
    "no credentials": "No credentials were found.",
    "no region": "No region is configured.",
    "rejected": "The service rejected the request for another reason.",
    "empty message": "A log record does not have a body.",
    "too old": "A log record is older than the service accepts.",
    "too new": "A log record is further in the future than the service accepts.",
    "expired": "A log record is older than the retention of its log group.",
    # streams of metrics of which a state is held
    "counter reset": "A cumulative value is lower than the one before, so that there is no delta.",
    "changed buckets": "The buckets of a histogram are others than before, so that there is no delta.",
    "stream limit": "The processor holds states of as many streams as it may.",
    "older start": "A data point belongs to a series that began before the present one.",
    "out of order": "A data point is not newer than the one before it.",
    # files that `filelog` does not read, or cannot read to their ends
    "unreadable": "A file cannot be opened or read.",
    "outside": "A link leads to a file outside of the directories that `link_targets` allows.",
    "not a regular file": "What is at a path of `include` is a device, a pipe or a socket.",
    "damaged gzip": "A compressed file is damaged.",
    "gone": "A file was deleted before it was read to its end.",
    "truncated": "A file was truncated before it was read to its end.",
    # entries that `journald` cannot read
    "damaged journal": "An entry is in a part of a journal file that is damaged.",
    # requests that a receiver rejects before their items are known
    "too large": "The request is larger than the limit.",
    "overloaded": "Too many requests are being handled already.",
    "stalled": "The request stopped coming before it was complete.",
    "content type": "The request is neither protobuf nor JSON.",
    "content encoding": "The Content-Encoding is not known.",
}

FAMILIES: dict[str, tuple[re.Pattern[str], str]] = {
    "http <status>": (re.compile(r"http \d{3}"), "The backend answered with this HTTP status."),
    "grpc <CODE>": (re.compile(r"grpc [A-Z][A-Z_]+"), "The backend answered with this gRPC status code."),
    "<reason>, end unknown": (
        re.compile(r"(?:gone|truncated|damaged gzip), end unknown"),
        "The same, where more may have been written to the file after it was last looked at.",
    ),
    "operator/<id>": (re.compile(r"operator/.+", re.DOTALL), "This operator failed on the entry and its `on_error` says drop."),
}
"""Reasons with a part that varies within a small set."""

_unlisted: set[str] = set()
_LOGGED_MOST = 100


def known(reason: str) -> bool:
    """Whether the reason is in the list, or in one of the families."""
    return reason in REASONS or any(pattern.fullmatch(reason) for pattern, _ in FAMILIES.values())


def checked(reason: str) -> str:
    """The reason as it is. One that is not listed is logged once: a mistake in the code must not stop data."""
    if reason not in REASONS and not known(reason) and reason not in _unlisted and len(_unlisted) < _LOGGED_MOST:
        unlisted(reason)
    return reason


def unlisted(reason: str) -> None:
    """What happens with a reason that is not in the list. Tests let it fail."""
    _unlisted.add(reason)
    log.error("%r is not a known reason for refusing or dropping data; please report this", reason)


def page() -> str:
    """The list as Markdown, `reasons.md` of the component reference."""
    lines = [
        "# Reasons for refused and dropped data",
        "",
        "Values of the label `reason` of `kofagent_dropped_items_total` (items that will never be delivered), of",
        "`kofagent_receiver_rejected_requests_total` (requests rejected before their items were known), of",
        "`kofagent_filelog_unreadable_files_total` and `kofagent_filelog_lost_files_total`, and in log messages.",
        "",
        "| reason | meaning |",
        "|---|---|",
    ]
    lines += [f"| `{reason}` | {meaning} |" for reason, meaning in REASONS.items()]
    lines += [f"| `{family}` | {meaning} |" for family, (_, meaning) in FAMILIES.items()]
    return "\n".join(lines) + "\n"
