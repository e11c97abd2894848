"""Which API server is used, with which identity: what `auth_type`, `--kubeconfig` and the pod's environment say."""

from __future__ import annotations

import os

from kofagent.component.protocols import Kubeconfig, StartError
from kofagent.config.blocks import TlsClientBlock
from kofagent.kubernetes import access
from kofagent.kubernetes.access import Access, ServiceAccount, proxy_of
from kofagent.kubernetes.options import ApiOptions
from kofagent.net.tls import client_context


def find(options: ApiOptions, kubeconfig: Kubeconfig | None = None) -> Access:
    """The access that options ask for; StartError says what is missing and what to do.

    `kubeconfig` is used in place of the pod's account as well.
    """
    kind = options.auth_type
    if kind == "kubeConfig" or (kind == "serviceAccount" and kubeconfig is not None):
        from kofagent.kubernetes.kubeconfig import load

        given = kubeconfig or Kubeconfig()
        return load(given.path or None, options.context or given.context)
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
