"""The way of the calls that come most often past the layers of the framework that do nothing for them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, cast

from fastapi import Request, Response
from fastapi.dependencies.utils import request_body_to_args
from fastapi.exceptions import RequestValidationError
from pydantic_core import PydanticUndefined
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from tunery.api.errors import HANDLED, answer_to
from tunery.api.json_route import JsonRoute, StrictRequest
from tunery.api.services import caller_in, services_in

PATHS = ("/chat/completions", "/completions", "/responses", "/embeddings")
"""Routes that are reached so, without their prefix: each takes a body, its request, services and caller."""
_JSON = frozenset(
    {b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"}
)
_METHOD = "POST"


class Shortcut:
    """Middleware behind the boundary that calls the functions of :data:`PATHS` itself.

    A call's checks, its errors and its answer are those of the usual way, which every request takes that is
    not plainly a JSON body posted to one of these paths.

    Args:
        app: The usual way.
        routes: Those of the routers whose functions are called, as they declare them.
        prefix: What stands before their paths.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], prefix: str) -> None:
        self._app = app
        self._ways: Mapping[str, Way] = {
            prefix + route.path: _way(route)
            for route in routes
            if isinstance(route, JsonRoute) and route.path in PATHS and _METHOD in (route.methods or ())
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        way = self._ways.get(scope["path"]) if scope["type"] == "http" else None
        if way is None or not _is_plain(scope):
            await self._app(scope, receive, send)
            return
        request = StrictRequest(scope, receive)
        try:
            response = await way(request)
        except HANDLED as error:
            response = answer_to(request, error)
        await response(scope, receive, send)


Way = Callable[[StrictRequest], Coroutine[Any, Any, Response]]


def _is_plain(scope: Scope) -> bool:
    """Return whether a request is read alike by both ways."""
    if scope["method"] != _METHOD or scope["query_string"] or scope["root_path"]:
        return False
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return len(kinds) == 1 and kinds[0].lower() in _JSON


def _way(route: JsonRoute) -> Way:
    """Return what a route's handler does with a body of JSON."""
    fields, function = route.dependant.body_params, cast(Callable[..., Any], route.dependant.call)

    async def answer(request: Request) -> Response:
        sent = await request.json() if await request.body() else PydanticUndefined
        values, errors = await request_body_to_args(fields, sent, embed_body_fields=False)
        if errors:
            raise RequestValidationError(errors)
        response: Response = await function(
            **values, request=request, shared=services_in(request), caller=caller_in(request)
        )
        return response

    return route.checked(answer)
