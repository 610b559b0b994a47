"""``/openapi.json``: the routes, the bodies they take and the statuses that they really send."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response

_ERRORS = {
    400: "The request is wrong; `param` names the field.",
    401: "No API key, or one that is unknown or revoked.",
    403: "The key's role does not include this, or another project shares it; with auth off: the call comes "
    "from another machine or a foreign web page.",
    404: "There is none of that name.",
    405: "The path does not know that method.",
    408: "The body did not arrive in time.",
    409: "The state does not allow it now.",
    413: "The body is too large.",
    429: "As many at once as may be.",
    500: "Something broke inside the server; its log has the details under `x-request-id`.",
    503: "Out of memory, disk or time, or about to end.",
}
_ALWAYS = (400, 401, 403, 404, 405, 408, 409, 413, 429, 500, 503)
_ERROR = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_UPLOAD = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["purpose", "file"],
                "properties": {
                    "purpose": {"enum": ["fine-tune", "batch"]},
                    "file": {"type": "string", "format": "binary"},
                },
            }
        }
    },
}
_EVENTS = {"text/event-stream": {"schema": {"type": "string"}}}
_STREAMS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
_NO_KEY = ("/health", "/health/live", "/version")


def document(app: FastAPI) -> dict[str, Any]:
    """Return the app's OpenAPI document: the same for every caller, and nothing of the app's state."""
    made = get_openapi(
        title=app.title, version=app.version, routes=app.routes, description="An OpenAI-shaped API."
    )
    parts = made.setdefault("components", {})
    parts.setdefault("schemas", {})["Error"] = _ERROR
    for leftover in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(leftover, None)
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operation in _operations(made):
        if path not in _NO_KEY:
            operation["security"] = [{"key": []}]
        responses = operation["responses"]
        responses.pop("422", None)
        for status in _ALWAYS:
            responses[str(status)] = _error_response(status)
    made["paths"]["/v1/files"]["post"]["requestBody"] = _UPLOAD
    for path in _STREAMS:
        made["paths"][path]["post"]["responses"]["200"]["content"].update(_EVENTS)
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    made["paths"]["/v1/files/{file_id}/content"]["get"]["responses"]["200"]["content"] = binary
    made["paths"]["/metrics"]["get"]["responses"]["200"]["content"] = {
        "text/plain": {"schema": {"type": "string"}}
    }
    return made


def route_of(app: FastAPI) -> Callable[[], Response]:
    """Return what answers with the document, which is made once, in a thread that may take its time."""
    made = functools.cache(lambda: json.dumps(document(app)).encode())

    def openapi() -> Response:
        return Response(made(), media_type="application/json")

    return openapi


def _operations(made: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in made["paths"].items():
        for operation in methods.values():
            yield path, operation


def _error_response(status: int) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": _ERRORS[status],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    if status in (429, 503):
        response["headers"] = {
            "Retry-After": {"required": True, "description": "[s]", "schema": {"type": "integer"}}
        }
    return response
