"""A real Kubernetes on this machine, for tests and for people: `python -m tests.cluster --help`."""

from tests.cluster.cluster import Cluster

__all__ = ["Cluster"]
