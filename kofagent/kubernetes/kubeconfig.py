"""Reads a kubeconfig as kubectl does: contexts, certificates, tokens, token files, exec plugins."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import datetime
import json
import os
import shutil
import ssl
import time
from collections.abc import Mapping
from typing import Any

import yaml
from multidict import CIMultiDict

from kofagent.component.protocols import StartError
from kofagent.config.base import Secret
from kofagent.config.blocks import TlsClientBlock
from kofagent.kubernetes.access import Access, proxy_of, trusting
from kofagent.net.tls import client_context
from kofagent.net.watched_file import WatchedFile
from kofagent.wire.foreign_json import read_json

EXEC_TIMEOUT = 60.0
EXEC_OUTPUT = 1 << 20
EXPIRY_MARGIN = 10.0
"""Credentials are renewed this many seconds before they expire."""
_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


def load(path: str | None, context: str = "") -> Access:
    """The access of a context (empty: the current one). `path` None: $KUBECONFIG (a list of files), else ~/.kube/config."""
    paths = [path] if path else [p for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    if not paths:
        paths = [os.path.join("~", ".kube", "config")]
    merged = _merge([os.path.expanduser(p) for p in paths], must_exist=path is not None)
    name = context or merged["current-context"]
    if not name:
        raise StartError(f"{paths[0]} has no current-context; set `context` or run: kubectl config use-context <name>")
    chosen = _entry(merged, "contexts", name, "context")
    cluster = _entry(merged, "clusters", str(chosen.get("cluster") or ""), "cluster")
    user = _entry(merged, "users", str(chosen["user"]), "user") if chosen.get("user") else {}
    return _Kubeconfig(name, cluster, user, str(chosen.get("namespace") or "default"))


def _merge(paths: list[str], must_exist: bool) -> dict[str, Any]:
    """All files as one: the first that names something wins. File names in them are relative to their own folder."""
    merged: dict[str, Any] = {"contexts": {}, "clusters": {}, "users": {}, "current-context": ""}
    read = 0
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                data = yaml.safe_load(file)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StartError(f"kubeconfig {path}: {error.strerror}") from None
        except (yaml.YAMLError, ValueError):
            raise StartError(f"kubeconfig {path} is not valid YAML") from None
        if not isinstance(data, dict):
            raise StartError(f"{path} is not a kubeconfig")
        read += 1
        merged["current-context"] = merged["current-context"] or str(data.get("current-context") or "")
        folder = os.path.dirname(os.path.abspath(path))
        for kind in ("contexts", "clusters", "users"):
            for entry in data.get(kind) or []:
                if isinstance(entry, dict) and entry.get("name") and str(entry["name"]) not in merged[kind]:
                    body = entry.get(kind[:-1])
                    merged[kind][str(entry["name"])] = {**(body if isinstance(body, dict) else {}), "_folder": folder}
    if not read:
        hint = "" if must_exist else "; name one with --kubeconfig or KUBECONFIG"
        raise StartError(f"no kubeconfig: {', '.join(paths)} {'does' if len(paths) == 1 else 'do'} not exist{hint}")
    return merged


def _entry(merged: dict[str, Any], kind: str, name: str, what: str) -> dict[str, Any]:
    found = merged[kind].get(name)
    if found is None:
        known = ", ".join(sorted(merged[kind])) or "none"
        raise StartError(f"the kubeconfig has no {what} {name!r}; it has: {known}")
    return dict(found)


class _Kubeconfig(Access):
    """The access of one context. Files are read again when they change; an exec plugin runs again when its credentials expire."""

    def __init__(self, name: str, cluster: dict[str, Any], user: dict[str, Any], namespace: str) -> None:
        server = str(cluster.get("server") or "")
        if not server.startswith(("https://", "http://")):
            raise StartError(f"kubeconfig context {name!r}: the cluster's server is not an http(s) URL")
        proxy = str(cluster.get("proxy-url") or "") or proxy_of(server)
        if proxy is not None and not proxy.startswith(("http://", "https://")):
            raise StartError(f"kubeconfig context {name!r}: proxy-url has a scheme that is not http or https")
        super().__init__(
            server, namespace=namespace, proxy=proxy, server_hostname=str(cluster.get("tls-server-name") or "") or None
        )
        if user.get("auth-provider"):
            raise StartError(f"kubeconfig context {name!r} uses auth-provider, which kubectl dropped; use an exec plugin")
        self._name = name
        self._insecure = bool(cluster.get("insecure-skip-tls-verify"))
        self._ca = _source(cluster, "certificate-authority")
        self._cert = _source(user, "client-certificate")
        self._key = _source(user, "client-key")
        self._token = str(user.get("token") or "")
        self._token_file = WatchedFile(_path(user, "tokenFile")) if user.get("tokenFile") else None
        self._basic = ""
        if user.get("username"):
            plain = f"{user['username']}:{user.get('password') or ''}".encode()
            self._basic = base64.b64encode(plain).decode()
        self._impersonate = _impersonation(user)
        self._exec = _ExecPlugin(name, user["exec"], cluster, user["_folder"]) if user.get("exec") else None
        self._built: tuple[Any, ...] | None = None
        self._sent = ""
        self._make_context(None)

    async def headers(self) -> Mapping[str, str]:
        """Authorization (from the token, its file, the plugin, or user and password) and impersonation."""
        token = self._token
        if self._token_file is not None:
            token = self._token_file.read().decode("utf-8-sig", "ignore").strip() or token
        if not token and self._exec is not None:
            token = (await self._exec.credential()).token
        self._sent = token
        headers = self._impersonate.copy()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        elif self._basic:
            headers["Authorization"] = f"Basic {self._basic}"
        return headers

    async def tls(self) -> ssl.SSLContext | bool:
        """The context with CA and client certificate as they are now."""
        credential = await self._exec.credential() if self._exec is not None else None
        try:
            self._make_context(credential)
        except StartError as error:
            if self._built is None:
                raise OSError(0, str(error)) from None
        return self._context

    def rejected(self) -> bool:
        """Runs the plugin again, reads the token file again."""
        if self._exec is not None:
            self._exec.forget()
            return True
        if self._token_file is not None:
            self._token_file.forget()
            with contextlib.suppress(OSError, ValueError):
                return self._token_file.read().decode("utf-8-sig", "ignore").strip() != self._sent
        return False

    def _make_context(self, credential: _Credential | None) -> None:
        if not self.server.startswith("https:"):
            return
        pems = []
        for source in (self._ca, self._cert, self._key):
            if not isinstance(source, WatchedFile):
                pems.append(source)
                continue
            try:
                pems.append(source.read())
            except (OSError, ValueError) as error:
                raise StartError(
                    f"kubeconfig context {self._name!r}: {source.path} cannot be read: {getattr(error, 'strerror', None) or error}"
                ) from None
        ca, cert, key = pems
        if credential is not None and credential.certificate:
            cert, key = credential.certificate.encode(), credential.key.encode()
        if self._built == (ca, cert, key):
            return
        options: dict[str, Any] = {"insecure_skip_verify": self._insecure}
        if cert and key:
            options |= {"cert_pem": Secret(cert.decode("ascii", "ignore")), "key_pem": Secret(key.decode("ascii", "ignore"))}
        try:
            own_ca = ca or isinstance(self._ca, WatchedFile)
            context = trusting(ca, **options) if own_ca else client_context(TlsClientBlock(**options))
        except StartError:
            raise StartError(f"kubeconfig context {self._name!r}: a certificate or key in it is not usable (not PEM)") from None
        self._context = context
        self._built = (ca, cert, key)


class _Credential:
    """What an exec plugin printed."""

    def __init__(self, token: str, certificate: str, key: str, expires: float | None) -> None:
        self.token = token
        self.certificate = certificate
        self.key = key
        self.expires = expires


class _ExecPlugin:
    """Runs the command of `user.exec`; its credentials are kept until they expire or are refused."""

    def __init__(self, name: str, spec: Any, cluster: dict[str, Any], folder: str) -> None:
        if not isinstance(spec, dict) or not spec.get("command"):
            raise StartError(f"kubeconfig context {name!r}: exec has no command")
        self._version = str(spec.get("apiVersion") or "")
        if self._version not in _EXEC_VERSIONS:
            raise StartError(
                f"kubeconfig context {name!r}: exec apiVersion {self._version!r} is not one of {', '.join(_EXEC_VERSIONS)}"
            )
        if spec.get("interactiveMode") == "Always":
            raise StartError(f"kubeconfig context {name!r}: its exec plugin wants a terminal (interactiveMode: Always)")
        command = str(spec["command"])
        if os.sep in command and not os.path.isabs(command):
            command = os.path.join(folder, command)
        if shutil.which(command) is None:
            hint = str(spec.get("installHint") or "")[:500]
            raise StartError(f"kubeconfig context {name!r}: exec command {command} is not found" + (f". {hint}" if hint else ""))
        self._command = [command, *(str(a) for a in spec.get("args") or [])]
        self._env = {
            str(e["name"]): str(e.get("value") or "") for e in spec.get("env") or [] if isinstance(e, dict) and e.get("name")
        }
        self._info: dict[str, Any] = {"interactive": False}
        if spec.get("provideClusterInfo"):
            told = {
                k: cluster[k]
                for k in ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url")
                if cluster.get(k)
            }
            if not told.get("certificate-authority-data") and cluster.get("certificate-authority"):
                with contextlib.suppress(OSError), open(_path(cluster, "certificate-authority"), "rb") as file:
                    told["certificate-authority-data"] = base64.b64encode(file.read()).decode()
            for extension in cluster.get("extensions") or []:
                if isinstance(extension, dict) and extension.get("name") == "client.authentication.k8s.io/exec":
                    told["config"] = extension.get("extension")
            self._info["cluster"] = told
        self._name = name
        self._lock = asyncio.Lock()
        self._kept: _Credential | None = None

    def forget(self) -> None:
        """The next `credential` runs the command."""
        self._kept = None

    async def credential(self) -> _Credential:
        """Credentials that have not expired; OSError when the command does not give any."""
        async with self._lock:
            kept = self._kept
            if kept is None or (kept.expires is not None and kept.expires - EXPIRY_MARGIN < time.time()):
                kept = self._kept = await self._run()
            return kept

    async def _run(self) -> _Credential:
        info = json.dumps({"apiVersion": self._version, "kind": "ExecCredential", "spec": self._info})
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, **self._env, "KUBERNETES_EXEC_INFO": info},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            raise OSError(0, f"exec plugin {self._command[0]}: {error.strerror}") from None
        try:
            assert process.stdout is not None
            async with asyncio.timeout(EXEC_TIMEOUT):
                out = await process.stdout.read(EXEC_OUTPUT)
                while more := await process.stdout.read(65536):
                    out += more
                    if len(out) > EXEC_OUTPUT:
                        raise OSError(0, f"exec plugin {self._command[0]} printed more than {EXEC_OUTPUT} bytes")
                code = await process.wait()
        except TimeoutError:
            raise OSError(0, f"exec plugin {self._command[0]} did not finish within {EXEC_TIMEOUT:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code != 0:
            raise OSError(
                0,
                f"exec plugin {self._command[0]} exited with status {code}; "
                f"kubectl --context {self._name} get nodes shows what it says",
            )
        return _read_credential(out, self._command[0], self._version)


def _read_credential(out: bytes, command: str, version: str) -> _Credential:
    try:
        said = read_json(out)
        status = said["status"]
        if said.get("kind") != "ExecCredential" or said.get("apiVersion") != version:
            raise ValueError
        expires = None
        if status.get("expirationTimestamp"):
            expires = datetime.datetime.fromisoformat(status["expirationTimestamp"].replace("Z", "+00:00")).timestamp()
        credential = _Credential(
            str(status.get("token") or ""),
            str(status.get("clientCertificateData") or ""),
            str(status.get("clientKeyData") or ""),
            expires,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise OSError(0, f"exec plugin {command} did not print an ExecCredential of {version}") from None
    if not credential.token and not (credential.certificate and credential.key):
        raise OSError(0, f"exec plugin {command} returned neither a token nor a certificate with its key")
    return credential


def _source(block: dict[str, Any], name: str) -> WatchedFile | bytes:
    """PEM text: of `<name>-data` (base64), else the file `<name>`."""
    data = block.get(f"{name}-data")
    if data:
        try:
            return base64.b64decode(str(data), validate=True)
        except (binascii.Error, ValueError):
            raise StartError(f"kubeconfig: {name}-data is not base64") from None
    return WatchedFile(_path(block, name)) if block.get(name) else b""


def _path(block: dict[str, Any], name: str) -> str:
    return os.path.join(block["_folder"], os.path.expanduser(str(block[name])))


def _impersonation(user: dict[str, Any]) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    if user.get("as"):
        headers["Impersonate-User"] = str(user["as"])
    if user.get("as-uid"):
        headers["Impersonate-Uid"] = str(user["as-uid"])
    for group in user.get("as-groups") or []:
        headers.add("Impersonate-Group", str(group))
    for key, values in (user.get("as-user-extra") or {}).items():
        for value in values or []:
            headers.add(f"Impersonate-Extra-{key}", str(value))
    return headers
