"""Options of the `k8s_leader_elector` extension."""

from __future__ import annotations

from pydantic import Field, model_validator

from kofagent.config.base import Duration
from kofagent.kubernetes.options import ApiOptions

JITTER = 1.2


class Config(ApiOptions):
    """Options of upstream's k8s_leader_elector extension."""

    lease_name: str = Field(min_length=1, description="Name of the Lease; one for each group of replicas.")
    lease_namespace: str = Field(min_length=1, description="Namespace of the Lease.")
    lease_duration: Duration = Field(15.0, gt=0, description="Time after which a Lease that was not renewed is taken over.")
    renew_deadline: Duration = Field(10.0, gt=0, description="Time after which a leader that cannot renew its Lease stops leading.")
    retry_period: Duration = Field(2.0, gt=0, description="Time between two attempts to take or to renew the Lease.")

    @model_validator(mode="after")
    def _in_order(self) -> Config:
        if self.lease_duration <= self.renew_deadline:
            raise ValueError("lease_duration must be longer than renew_deadline, or two replicas lead at the same time")
        if self.renew_deadline <= self.retry_period * JITTER:
            raise ValueError(f"renew_deadline must be longer than {JITTER:g} times retry_period")
        return self
