"""Which API server is used, with which identity: what `auth_type`, `--kubeconfig` and the pod's environment say."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kofagent.component.protocols import StartError
from kofagent.config.blocks import TlsClientBlock
from kofagent.kubernetes import access
from kofagent.kubernetes.access import Access, ServiceAccount, proxy_of
from kofagent.kubernetes.options import ApiOptions
from kofagent.net.tls import client_context


@dataclass
class DefaultKubeconfig:
    """What `--kubeconfig` and `--context` name. `path` None: there is no default; empty: kubectl's search."""

    path: str | None = None
    context: str = ""


default = DefaultKubeconfig()
"""One per process, as the command line is."""


def set_default_kubeconfig(path: str | None, context: str = "") -> None:
    """Sets the kubeconfig of all components whose auth_type is serviceAccount or kubeConfig.

    An empty path is kubectl's own search: $KUBECONFIG, else ~/.kube/config. None undoes it.
    """
    default.path = path
    default.context = context


def default_kubeconfig() -> str | None:
    """The path that `set_default_kubeconfig` was given; None: there is no default."""
    return default.path


def find(options: ApiOptions) -> Access:
    """The access that options ask for; StartError says what is missing and what to do."""
    kind = options.auth_type
    if kind == "tls":
        raise StartError(
            "auth_type tls has no options that name a certificate; use auth_type: kubeConfig with a kubeconfig that "
            "has client-certificate and client-key"
        )
    if kind == "kubeConfig" or (kind == "serviceAccount" and default.path is not None):
        from kofagent.kubernetes.kubeconfig import load

        return load(default.path or None, options.context or default.context)
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise StartError(
            "not in a Kubernetes cluster (KUBERNETES_SERVICE_HOST is not set); run with --kubeconfig ~/.kube/config, "
            "set auth_type: kubeConfig, or switch the component off (--values configs/no-cluster.yaml)"
        )
    if kind == "none":
        server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        context = client_context(TlsClientBlock(insecure_skip_verify=True))
        return Access(server, context=context, proxy=proxy_of(server))
    return ServiceAccount(access.SERVICE_ACCOUNT, host, port)
