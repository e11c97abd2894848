"""Handlers by path and method, for servers with several pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from kofagent.telemetry.batch import Metadata

Page = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Routes:
    """A handler for `HttpServer`: 404 for an unknown path, 405 for another method. A handler for GET also serves HEAD."""

    def __init__(self, hint: str = "404 page not found") -> None:
        """`hint` is the text of a 404."""
        self._hint = hint
        self._pages: dict[str, dict[str, Page]] = {}
        self._below: dict[str, dict[str, Page]] = {}

    def add(self, path: str, page: Page, *methods: str) -> None:
        """`page` answers `methods` (GET when none is named) of a path; one that ends in `/*` also of all paths below it."""
        methods = methods or ("GET",)
        known = self._below.setdefault(path[:-1], {}) if path.endswith("/*") else self._pages.setdefault(path, {})
        known.update(dict.fromkeys((*methods, *(["HEAD"] if "GET" in methods else [])), page))

    async def __call__(self, request: web.BaseRequest, metadata: Metadata | None = None) -> web.StreamResponse:
        """The answer of the page that was asked for."""
        pages = self._pages.get(request.path) or self._below.get(request.path[: request.path.rfind("/") + 1])
        if pages is None:
            return web.Response(status=404, text=self._hint + "\n")
        page = pages.get(request.method)
        if page is None:
            allowed = ", ".join(sorted(pages))
            return web.Response(status=405, text=f"405 method not allowed, supported: {allowed}\n", headers={"Allow": allowed})
        return await page(request)
