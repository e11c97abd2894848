"""The APIs of clouds, for what their metadata services do not say: signed calls of EC2, and GETs with a token."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlencode

from kofagent.component.protocols import Context, StartError
from kofagent.config.blocks import HttpClientBlock
from kofagent.net.aws import Credentials, Sources
from kofagent.net.client import HttpClient
from kofagent.processors.resourcedetection.servers import BODY_LIMIT, Unavailable
from kofagent.telemetry.refused import Refused

_FORM = "application/x-www-form-urlencoded; charset=utf-8"
_VERSION = "2016-11-15"


class CloudApi:
    """One client for all detectors of a processor, opened at its first call."""

    def __init__(self, settings: HttpClientBlock, context: Context) -> None:
        self._client = HttpClient(settings, context)
        self._started = False

    async def stop(self) -> None:
        """Closes its connections."""
        if self._started:
            await self._client.stop()
            self._started = False

    async def get(self, url: str, headers: Mapping[str, str]) -> bytes:
        """The body of a 200; else Unavailable."""
        return await self._request("GET", url, b"", headers)

    async def ec2(self, region: str, parameters: Mapping[str, str]) -> bytes:
        """Calls an action of EC2 in a region: the XML of a 200; else Unavailable."""
        zone = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        named = os.environ.get("AWS_ENDPOINT_URL_EC2") or os.environ.get("AWS_ENDPOINT_URL")
        url = f"{(named or f'https://ec2.{region}.{zone}').rstrip('/')}/"
        body = urlencode({"Version": _VERSION, **parameters}).encode()
        try:
            credentials = Credentials(Sources(region), "ec2", "the EC2 API")
            await credentials.ready()
            headers = credentials.sign(url, body, {"Content-Type": _FORM})
        except (Refused, StartError) as error:
            raise Unavailable(str(error)) from None
        return await self._request("POST", url, body, headers)

    async def _request(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        if not self._started:
            await self._client.start()
            self._started = True
        try:
            answer = await self._client.request(method, url, body, headers, limit=BODY_LIMIT)
        except Refused as error:
            raise Unavailable(str(error)) from None
        if answer.status != 200:
            raise Unavailable(f"{url.partition('?')[0]} answered {answer.status}")
        return answer.body
