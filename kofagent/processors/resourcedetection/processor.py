"""The processor `resourcedetection`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine
from typing import Any

from kofagent.component.backoff import Backoff
from kofagent.component.log_limit import LogLimit
from kofagent.component.mapping import Mapper
from kofagent.component.protocols import Context, Processor, StartError
from kofagent.kubernetes.client import ApiClient, shared
from kofagent.kubernetes.errors import ApiError
from kofagent.kubernetes.options import ApiOptions
from kofagent.net.daemon import in_daemon_thread
from kofagent.processors.resourcedetection import azure, docker, ec2, ecs, env, gcp, k8s, kubeadm, system
from kofagent.processors.resourcedetection.blocks import DetectorBlock, K8sBlock
from kofagent.processors.resourcedetection.cloud_api import CloudApi
from kofagent.processors.resourcedetection.config import Config
from kofagent.processors.resourcedetection.servers import Unavailable
from kofagent.telemetry.batch import Batch
from kofagent.transform.resources import ResourceMap
from kofagent.wire import edit

KUBERNETES = ("k8s_api", "k8snode", "kubeadm")
"""Detectors that ask the API server; what it does not say at first is asked for again."""
NEEDS_API = (*KUBERNETES, "eks")
FIRST_RETRY, LONGEST_RETRY = 1.0, 30.0
"""Seconds between two attempts while the API does not answer."""


class ResourceDetection(Processor[Config]):
    """One instance per pipeline; what was detected is added to every distinct resource once."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.detected: dict[str, Any] = {}
        self._map = ResourceMap(self._change)
        self._refreshing: asyncio.Task[None] | None = None
        self._clients: dict[str, ApiClient] = {}
        self._api = CloudApi(config, context)
        self._last: dict[str, dict[str, Any]] = {}
        """What each detector that asks a server said when it last answered."""
        self._absent: dict[str, str] = {}
        """Which of these have no answer, and why."""
        self._missing = ""
        """What the Kubernetes API could not say, and why; empty when it said everything."""
        self._told = ""
        self._log = LogLimit()

    def explain(self) -> str:
        """The detectors; the first that knows an attribute sets it."""
        how = "replaces what the data has" if self.config.override else "keeps what the data has"
        return f"{', '.join(self.config.detectors)}; {how}\n"

    async def start(self) -> None:
        self._mapper = Mapper(self, lambda batch: self._map.apply(batch, None) if self.detected else batch)
        for name in self.config.detectors:
            if name in NEEDS_API and name not in self._clients and (name != "eks" or os.environ.get("KUBERNETES_SERVICE_HOST")):
                block = getattr(self.config, name)
                client = shared(self.context.host, block if isinstance(block, ApiOptions) else ApiOptions())
                await client.start()
                self._clients[name] = client
        try:
            self.detected = await self._detect()
        except (OSError, ValueError) as error:
            raise StartError(f"the resource cannot be detected: {error}") from None
        self.context.log.info("detected resource attributes: %s", ", ".join(sorted(self.detected)) or "none")
        if self.config.refresh_interval or self._missing:
            self._refreshing = asyncio.create_task(self._refresh(), name=self.context.id)

    async def stop(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
            self._refreshing = None
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.stop()
        await self._api.stop()

    def consume(self, batch: Batch) -> Coroutine[Any, Any, None]:
        return self._mapper.consume(batch)

    def _change(self, resource: bytes, key: None) -> bytes:
        if self.config.override:
            return edit.patch(resource, edit.RESOURCE, upsert=self.detected)
        return edit.patch(resource, edit.RESOURCE, insert=self.detected)

    async def _refresh(self) -> None:
        backoff = Backoff(FIRST_RETRY, LONGEST_RETRY)
        while self.config.refresh_interval or self._missing:
            if self._missing:
                self._say()
                await asyncio.sleep(backoff.next())
            else:
                self._say()
                await asyncio.sleep(self.config.refresh_interval)
                backoff.reset()
            try:
                detected = await self._detect()
            except (OSError, ValueError) as error:
                self.context.log.warning("the resource could not be detected again; the previous attributes stay: %s", error)
                continue
            if self._missing:
                detected = {**self.detected, **detected}
            if detected != self.detected:
                self.detected = detected
                self._map.clear()
        self._say()

    def _say(self) -> None:
        """Logs and reports a change of what is missing, once."""
        if self._missing != self._told:
            self._told = self._missing
            if self._missing:
                self.context.log.warning("the node's attributes are incomplete: %s", self._missing)
            self.context.report(self._missing or None)

    async def _detect(self) -> dict[str, Any]:
        """The attributes of all detectors; the first detector that knows one sets it. OSError, ValueError."""
        self._missing = ""
        said = await asyncio.gather(*(self._one(name) for name in self.config.detectors), return_exceptions=True)
        out: dict[str, Any] = {}
        for found in said:
            if isinstance(found, BaseException):
                raise found
            for key, value in found.items():
                out.setdefault(key, value)
        wanted = self.config.attributes
        return out if wanted is None else {key: value for key, value in out.items() if key in wanted}

    async def _one(self, name: str) -> dict[str, Any]:
        """The attributes of one detector."""
        if name == "env":
            return env.detect(self.config.env)
        if name == "system":
            return await self._system()
        if name in ("k8s_api", "k8snode"):
            return await self._kubernetes(name)
        return await self._server(name)

    def _ask(self, name: str) -> Coroutine[Any, Any, dict[str, Any]]:
        """What a detector finds that asks a server."""
        config = self.config
        match name:
            case "kubeadm":
                return kubeadm.detect(config.kubeadm, self._clients[name])
            case "docker":
                return docker.detect(config.docker)
            case "ec2":
                return ec2.detect(config.ec2, self._api.ec2)
            case "eks":
                return ec2.detect_eks(config.eks, self._clients.get(name), self._api.ec2)
            case "ecs":
                return ecs.detect()
            case "gcp":
                return gcp.detect(config.gcp, self._api.get)
            case "azure":
                return azure.detect(config.azure)
            case _:
                return azure.detect_aks(config.aks)

    async def _server(self, name: str) -> dict[str, Any]:
        """What a server says within the time limit. Without an answer its attributes are left out, or stay as they were."""
        block: DetectorBlock = getattr(self.config, name)
        reason = ""
        try:
            async with asyncio.timeout(self.config.timeout or None):
                found = await self._ask(name)
            if not found:
                reason = "not running there"
        except TimeoutError:
            reason = f"no answer within {self.config.timeout:g} s"
        except (Unavailable, ApiError, KeyError, TypeError, AttributeError) as error:
            known = isinstance(error, Unavailable | ApiError)
            reason = str(error) if known else "an answer is not what it should be"
        if reason:
            return self._without(name, reason)
        self._absent.pop(name, None)
        on = block.enabled()
        self._last[name] = {
            key: value if isinstance(value, list) else str(value)
            for key, value in found.items()
            if value not in (None, "", []) and (key in on or key not in block.known)
        }
        return self._last[name]

    def _without(self, name: str, reason: str) -> dict[str, Any]:
        """What is said when a server has no answer. OSError where an answer was asked for."""
        if self.config.fail_on_missing_metadata or (name == "ec2" and self.config.ec2.fail_on_missing_metadata):
            raise OSError(f"the detector {name}: {reason}")
        if self._absent.get(name) != reason:
            self._absent[name] = reason
            self.context.log.info("the detector %s found nothing: %s", name, reason)
        if name in KUBERNETES:
            self._missing = reason
        return self._last.get(name, {})

    async def _kubernetes(self, name: str) -> dict[str, Any]:
        """What the environment and the API say; without the API the environment's part, unless `fail_on_missing_metadata`."""
        block: K8sBlock = getattr(self.config, name)
        known = k8s.of_environment(block)
        try:
            async with asyncio.timeout(self.config.timeout or None):
                found, warning = await k8s.detect(block, self._clients[name])
        except (ApiError, KeyError, TypeError, TimeoutError) as error:
            reason = str(error) if isinstance(error, ApiError) else "the API server did not answer in time"
            if self.config.fail_on_missing_metadata:
                raise OSError(reason) from None
            self._missing = reason
            return known
        if warning and self._log.due(warning):
            self.context.log.warning("%s", warning)
        return found

    async def _system(self) -> dict[str, Any]:
        """Names are looked up in a thread: a name server that does not answer costs `timeout`, then the kernel's name is taken."""
        config = self.config
        deadline = time.monotonic() + config.timeout if config.timeout else float("inf")
        outcome = in_daemon_thread(lambda: system.detect(config.system, lambda: time.monotonic() < deadline), self.context.id)
        done, _ = await asyncio.wait({outcome}, timeout=config.timeout or None)
        if done:
            return outcome.result()
        self.context.log.warning(
            "the host name was not found within %g s; check that the name server answers (hostname_sources)", config.timeout
        )
        sources = config.system.hostname_sources or ["dns", "os"]
        if "os" not in sources:
            raise OSError(f"none of the hostname_sources {', '.join(sources)} answered in {config.timeout:g} s; add os")
        return system.detect(config.system, lambda: False)
