"""AWS credentials and signatures, from botocore: its default chain (environment, web identity, shared files, container, IMDS).

botocore blocks while it fetches, so that happens in a thread; it is imported here and nowhere else, when a component starts that
needs it. Its clients are not used: the description of one service costs tens of megabytes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import Any

from kofagent.component.protocols import StartError
from kofagent.telemetry.refused import Refused


@dataclass(frozen=True)
class Sources:
    """Where the credentials and the region are looked for; what is empty is left to botocore."""

    region: str = ""
    profile: str = ""
    shared_credentials_file: str = ""
    imds_retries: int = 1
    local_mode: bool = False
    """The instance is not asked."""
    role_arn: str = ""
    external_id: str = ""


class Credentials:
    """The credentials of one component, `user`, for one AWS service; `sign` gives a request's headers."""

    def __init__(self, sources: Sources, service: str, user: str) -> None:
        try:
            import botocore.auth
            import botocore.awsrequest
            import botocore.session
        except ImportError:
            raise StartError(f"{user} needs botocore; install kofagent[aws]") from None
        # botocore logs canonical requests (with the session token) at debug and tracebacks at warning.
        logging.getLogger("botocore").setLevel(logging.ERROR)
        self._sources = sources
        self._service = service
        self._auth = botocore.auth.SigV4Auth
        self._request = botocore.awsrequest.AWSRequest
        self._new_session = botocore.session.Session
        self._session = self._open()
        self._credentials: Any = None
        self._frozen: Any = None
        self._lock = asyncio.Lock()
        self.region: str = sources.region

    def _open(self) -> Any:
        """A session, which remembers the credentials that it finds."""
        sources = self._sources
        session = self._new_session(profile=sources.profile or None)
        if sources.shared_credentials_file:
            session.set_config_variable("credentials_file", os.path.expanduser(sources.shared_credentials_file))
        session.set_config_variable("metadata_service_num_attempts", sources.imds_retries + 1)
        return session

    def configured_region(self) -> str:
        """The region from options, environment or profile; empty when only the instance could tell."""
        if not self.region:
            self.region = self._session.get_config_variable("region") or os.environ.get("AWS_REGION", "") or ""
        return self.region

    async def ready(self) -> None:
        """Fetches what is missing or about to expire; Refused (to be tried again) without credentials or region."""
        if not self._stale():
            return
        async with self._lock:
            if self._stale():
                try:
                    await asyncio.to_thread(self._fetch)
                except Refused:
                    raise
                except Exception as error:
                    # Messages of botocore name the failing provider; they hold no keys, yet the type is enough.
                    raise Refused("no credentials", f"cannot get AWS credentials: {type(error).__name__}", retry_after=5) from None

    def _stale(self) -> bool:
        if self._frozen is None or not self.region:
            return True
        needed = getattr(self._credentials, "refresh_needed", None)
        return bool(needed and needed())

    def _fetch(self) -> None:
        if not self.configured_region():
            from botocore.utils import InstanceMetadataRegionFetcher

            found = None if self._sources.local_mode else InstanceMetadataRegionFetcher().retrieve_region()
            if not found:
                raise Refused("no region", "set region, or AWS_REGION in the environment", retry_after=30)
            self.region = found
        if self._credentials is None:
            self._credentials = self._load()
        # Asked for here and kept: asking again while signing could block the event loop with a refresh.
        self._frozen = self._credentials.get_frozen_credentials()

    def _load(self) -> Any:
        if self._sources.local_mode:
            self._session.get_component("credential_provider").remove("iam-role")
        source = self._session.get_credentials()
        if source is None:
            raise Refused(
                "no credentials", "no AWS credentials in environment, web identity, files, container or instance", retry_after=5
            )
        if not self._sources.role_arn:
            return source
        from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

        def client(service: str, **more: Any) -> Any:
            return self._session.create_client(service, region_name=self.region, **more)

        extra = {"RoleSessionName": "kofagent"}
        if self._sources.external_id:
            extra["ExternalId"] = self._sources.external_id
        fetcher = AssumeRoleCredentialFetcher(client, source, self._sources.role_arn, extra_args=extra)
        return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")

    def forget(self) -> None:
        """Loads credentials again before the next request: the service refused these."""
        self._credentials = self._frozen = None
        self._session = self._open()

    def sign(self, url: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
        """The headers with Signature Version 4 added; `ready` was awaited before."""
        if self._frozen is None:  # another call's answer has discarded them
            raise Refused("no credentials", "AWS credentials are being fetched again", retry_after=1)
        request = self._request(method="POST", url=url, data=body, headers=headers)
        self._auth(self._frozen, self._service, self.region).add_auth(request)
        return dict(request.headers.items())
