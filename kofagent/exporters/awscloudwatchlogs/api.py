"""The calls of the CloudWatch Logs API (JSON 1.1 protocol) that the exporter makes, and what its errors mean."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from kofagent.component.backoff import Backoff
from kofagent.component.requests import TooLarge
from kofagent.exporters.awscloudwatchlogs.events import Call
from kofagent.net.aws import Credentials
from kofagent.net.client import HttpClient, retry_after_seconds
from kofagent.telemetry.refused import Refused
from kofagent.wire.foreign_json import read_json

_THROTTLED = {
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "LimitExceededException",
    "BandwidthLimitExceeded",
    "PriorRequestNotComplete",
    "TransactionInProgressException",
    "SlowDown",
}
_TRY_AGAIN = {
    "ServiceUnavailableException",
    "ServiceUnavailable",
    "InternalFailure",
    "InternalServerError",
    "InternalError",
    "OperationAbortedException",
    "RequestTimeout",
    "RequestTimeoutException",
    "InvalidSequenceTokenException",
}
_CREDENTIALS = {
    "ExpiredTokenException",
    "ExpiredToken",
    "RequestExpired",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "AccessDeniedException",
    "AccessDenied",
    "MissingAuthenticationTokenException",
    "MissingAuthenticationToken",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "NotAuthorized",
    "OptInRequired",
    "AuthFailure",
}
_SHOWN = 300


class ApiError(Exception):
    """The service answered with an error; `code` without its namespace, `message` shortened."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None) -> None:
        super().__init__(f"{code or status}: {message}" if message else code or str(status))
        self.status = status
        self.code = code
        self.retry_after = retry_after

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed soon."""
        return self.code in _THROTTLED or self.code in _TRY_AGAIN or self.status == 429 or self.status >= 500

    def refusal(self) -> Refused:
        """What it means for the data: errors of load, service and credentials leave it to be tried again."""
        if self.code in _THROTTLED or self.status == 429:
            return Refused("throttled", str(self), retry_after=self.retry_after)
        if self.transient:
            return Refused("service unavailable", str(self), retry_after=self.retry_after)
        if self.code in _CREDENTIALS or self.status in (401, 403):
            # The policy or the Secret will be fixed; until then the data waits.
            return Refused("access denied", str(self), retry_after=self.retry_after)
        if self.code == "ResourceNotFoundException":
            return Refused("no such stream", str(self))
        if self.status == 413 or "too large" in str(self).lower():
            return TooLarge("http 413" if self.status == 413 else "rejected", str(self))
        return Refused("rejected", str(self), permanent=True)


class Rejected:
    """`rejectedLogEventsInfo`: how many events of a call the service left out, by reason."""

    def __init__(self, info: dict[str, Any], events: int) -> None:
        def number(name: str, default: int) -> int:
            value = info.get(name)
            return min(max(value, 0), events) if isinstance(value, int) else default

        old, expired = number("tooOldLogEventEndIndex", 0), number("expiredLogEventEndIndex", 0)
        # Events are sorted by time: the oldest are a head of the list, the newest a tail.
        self.too_old = old
        self.expired = max(expired - old, 0)
        self.too_new = events - number("tooNewLogEventStartIndex", events)

    def by_reason(self) -> tuple[tuple[str, int], ...]:
        """Reason and count, as the ledger counts them."""
        return ("too old", self.too_old), ("expired", self.expired), ("too new", self.too_new)


class LogsApi:
    """Signed calls to one endpoint."""

    def __init__(self, client: HttpClient, credentials: Credentials, options: Any) -> None:
        self._client = client
        self._credentials = credentials
        self._options = options
        self._creating = asyncio.Lock()

    async def put(self, call: Call) -> Rejected:
        """Delivers the events of one call, making group and stream where they are absent. Refused as `ApiError.refusal`."""
        body = _put_body(call)
        try:
            try:
                answer = await self._call("PutLogEvents", body)
            except ApiError as error:
                if error.code != "ResourceNotFoundException":
                    raise
                await self._create(*call.stream)
                answer = await self._call("PutLogEvents", body)
        except ApiError as error:
            if error.code == "DataAlreadyAcceptedException":
                return Rejected({}, len(call.events))
            if error.code in _CREDENTIALS:
                self._credentials.forget()
            raise error.refusal() from None
        info = answer.get("rejectedLogEventsInfo")
        return Rejected(info if isinstance(info, dict) else {}, len(call.events))

    async def _create(self, group: str, stream: str) -> None:
        async with self._creating:
            try:
                await self._make("CreateLogStream", {"logGroupName": group, "logStreamName": stream})
                return
            except ApiError as error:
                if error.code != "ResourceNotFoundException":
                    raise
            request: dict[str, Any] = {"logGroupName": group}
            if self._options.tags:
                request["tags"] = {k: v or "" for k, v in self._options.tags.items()}
            made = await self._make("CreateLogGroup", request)
            if made and self._options.log_retention:
                await self._make("PutRetentionPolicy", {"logGroupName": group, "retentionInDays": self._options.log_retention})
            await self._make("CreateLogStream", {"logGroupName": group, "logStreamName": stream})

    async def _make(self, operation: str, request: dict[str, Any]) -> bool:
        """Creates something; False if it already exists."""
        try:
            await self._call(operation, json.dumps(request).encode())
        except ApiError as error:
            if error.code == "ResourceAlreadyExistsException":
                return False
            raise
        return True

    async def _call(self, operation: str, body: bytes) -> dict[str, Any]:
        # The SDK's quick retries; the slow ones are retry_on_failure's.
        tries, backoff = max(0, self._options.max_retries), Backoff(0.1, 2.0, asked_most=2.0)
        for attempt in range(tries + 1):
            try:
                return await self._once(operation, body)
            except ApiError as error:
                if attempt == tries or not error.transient:
                    raise
                await asyncio.sleep(backoff.next(error.retry_after))
        raise AssertionError("unreachable")

    async def _once(self, operation: str, body: bytes) -> dict[str, Any]:
        await self._credentials.ready()
        url = endpoint(self._options.endpoint, self._credentials.region)
        headers = self._credentials.sign(
            url, body, {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"Logs_20140328.{operation}"}
        )
        answer = await self._client.request("POST", url, body, headers)
        try:
            content = read_json(answer.body) if answer.body else {}
        except ValueError:
            content = {}
        if not isinstance(content, dict):
            content = {}
        if 200 <= answer.status < 300:
            return content
        code = str(content.get("__type") or answer.headers.get("x-amzn-ErrorType") or "").split("#")[-1].split(":")[0]
        message = str(content.get("message") or content.get("Message") or "")[:_SHOWN]
        raise ApiError(answer.status, code, message, retry_after_seconds(answer.headers))


def _put_body(call: Call) -> bytes:
    quote = json.encoder.encode_basestring
    group, stream = call.stream
    events = ",".join([f'{{"timestamp":{at},"message":{quote(message)}}}' for at, message, _, _ in call.events])
    text = f'{{"logGroupName":{quote(group)},"logStreamName":{quote(stream)},"logEvents":[{events}]}}'
    return text.encode("utf-8", "replace")


def endpoint(configured: str, region: str) -> str:
    """The URL of the service: the configured one (https without a scheme), or AWS' for the region."""
    if configured:
        url = configured if "://" in configured else f"https://{configured}"
        return url if url.count("/") > 2 else url + "/"
    domain = "amazonaws.com"
    for prefix, other in (("cn-", "amazonaws.com.cn"), ("us-isob-", "sc2s.sgov.gov"), ("us-iso-", "c2s.ic.gov")):
        if region.startswith(prefix):
            domain = other
    return f"https://logs.{region}.{domain}/"
