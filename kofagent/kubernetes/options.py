"""Options shared by the components that read the Kubernetes API (upstream: internal/k8sconfig), in upstream's spelling."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from kofagent.config.base import ComponentConfig


class ApiOptions(ComponentConfig):
    """How the API server is reached."""

    auth_type: Literal["serviceAccount", "kubeConfig", "none"] = Field(
        "serviceAccount", description="Credentials: the pod's service account, a kubeconfig, or none; tls is not possible."
    )
    context: str = Field("", description="Context of the kubeconfig; empty: its current one.")
    kube_api_qps: float = Field(0.0, ge=0, description="Accepted for compatibility; at most 10 requests are under way.")
    kube_api_burst: int = Field(0, ge=0, description="Accepted for compatibility; see kube_api_qps.")

    @field_validator("auth_type", mode="before")
    @classmethod
    def _has_credentials(cls, value: Any) -> Any:
        if value == "tls":
            raise ValueError(
                "tls has no options that name a certificate; write kubeConfig, with a kubeconfig that has client-certificate "
                "and client-key"
            )
        return value
