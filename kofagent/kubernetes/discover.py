"""Finds a resource by its plural name, as `kubectl get NAME` does: the core API first, then each group's preferred version."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.errors import ApiError, NotFound, Unauthorized, Unreachable
from kofagent.kubernetes.resources import Resource


async def discover(client: ApiClient, plural: str, group: str = "") -> Resource | None:
    """The resource; None where this API server does not serve it. Without `group` the first group that has it. ApiError.

    A group whose own server is down (a broken APIService) is passed over, as long as no group is asked for.
    """
    if group:
        try:
            found = await client.get(f"/apis/{quote(group, safe='')}")
        except NotFound:
            return None
        return await _in_group(client, group, _versions(found), plural)
    resource = await _in_version(client, "", "v1", plural)
    if resource is not None:
        return resource
    groups = await client.get("/apis")
    for entry in groups.get("groups") or ():
        try:
            resource = await _in_group(client, str(entry.get("name")), _versions(entry)[:1], plural)
        except (Unreachable, Unauthorized):
            raise
        except ApiError:
            continue
        if resource is not None:
            return resource
    return None


def _versions(group: Any) -> list[str]:
    """The versions of an APIGroup, the preferred one first."""
    preferred = str((group.get("preferredVersion") or {}).get("version") or "")
    others = [str(v.get("version")) for v in group.get("versions") or ()]
    return [v for v in dict.fromkeys([preferred, *others]) if v]


async def _in_group(client: ApiClient, group: str, versions: list[str], plural: str) -> Resource | None:
    for version in versions:
        resource = await _in_version(client, group, version, plural)
        if resource is not None:
            return resource
    return None


async def _in_version(client: ApiClient, group: str, version: str, plural: str) -> Resource | None:
    try:
        found = await client.get(f"/apis/{quote(group, safe='')}/{quote(version, safe='')}" if group else f"/api/{version}")
    except NotFound:
        return None
    for entry in found.get("resources") or ():
        if entry.get("name") == plural:
            return Resource(group, version, plural, str(entry.get("kind") or ""), bool(entry.get("namespaced")))
    return None
