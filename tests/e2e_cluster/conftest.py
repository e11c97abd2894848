"""Clusters that several tests of a module share, and what such tests need to be run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """etcd, API server, controllers and scheduler; no node."""
    with Cluster(Path(tmp_path_factory.mktemp("cluster")) / "c") as cluster:
        yield cluster
