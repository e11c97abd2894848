"""Cross-origin requests of browsers: the Fetch standard's CORS protocol with what upstream allows."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

from kofagent.config.blocks import CorsBlock


class Cors:
    """The answers of the Fetch standard's CORS protocol, with the safe headers and methods that upstream allows."""

    def __init__(self, block: CorsBlock) -> None:
        self._all = "*" in block.allowed_origins
        self._origins = [re.compile(fnmatch.translate(origin.lower().replace("[", "[[]"))) for origin in block.allowed_origins]
        self._headers = {"accept", "content-type", "x-requested-with"} | {name.lower() for name in block.allowed_headers}
        self._any_header = "*" in block.allowed_headers
        self._exposed = ", ".join(block.exposed_headers)
        self._max_age = block.max_age

    @staticmethod
    def is_preflight(headers: Mapping[str, str]) -> bool:
        """A browser asks before it sends."""
        return "Access-Control-Request-Method" in headers and "Origin" in headers

    def allows(self, origin: str) -> bool:
        """Whether pages of an origin may send requests."""
        return self._all or any(pattern.match(origin.lower()) for pattern in self._origins)

    def _origin(self, headers: Mapping[str, str]) -> dict[str, str]:
        origin = headers.get("Origin", "")
        if not origin or not self.allows(origin):
            return {}
        return {"Access-Control-Allow-Origin": "*" if self._all else origin, "Access-Control-Allow-Credentials": "true"}

    def preflight(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Headers of the answer to a preflight; without permission no CORS headers are among them."""
        vary = {"Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}
        method = headers["Access-Control-Request-Method"].upper()
        allowed = self._origin(headers)
        asked = [name.strip() for name in headers.get("Access-Control-Request-Headers", "").split(",") if name.strip()]
        if not allowed or method not in ("GET", "POST", "HEAD"):
            return vary
        if not self._any_header and not all(name.lower() in self._headers for name in asked):
            return vary
        allowed["Access-Control-Allow-Methods"] = method
        if asked:
            allowed["Access-Control-Allow-Headers"] = ", ".join(asked)
        if self._max_age:
            allowed["Access-Control-Max-Age"] = str(max(0, self._max_age))
        return {**vary, **allowed}

    def actual(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Headers of the answer to a request."""
        out = {"Vary": "Origin"}
        out.update(self._origin(headers))
        if self._exposed and len(out) > 1:
            out["Access-Control-Expose-Headers"] = self._exposed
        return out
