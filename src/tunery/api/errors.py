"""The one place where errors become HTTP: always ``{"error": {message, type, param, code}}``."""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from tunery.api.unserved import ENDPOINT_NOT_SERVED, STILL_UP, allowed_methods, known_elsewhere, why_not_found
from tunery.core.errors import (
    DamagedError,
    DamagedRowError,
    LimitError,
    QuotaError,
    ResourceError,
    ThrottledError,
    TuneryError,
    UpstreamRefusedError,
    first_of,
)
from tunery.core.faults import is_out_of_memory
from tunery.serve.openai.wire import UNKNOWN_PARAMETER

_LOG = logging.getLogger(__name__)
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {
    401: "invalid_api_key",
    404: "not_found",
    408: "request_timeout",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: LimitError.code,
    503: ResourceError.code,
}


_SHORTAGES = {
    errno.ENOSPC: "the server's disk is full",
    errno.EDQUOT: "the server's disk quota is used up",
    errno.EMFILE: "the server has too many files open",
    errno.ENFILE: "the server's machine has too many files open",
}
_TOLD = 50
"""Problems of one request that are written out [count]."""


class Problem(NamedTuple):
    """An error as it goes over the wire."""

    status: int
    message: str
    type: str
    param: str | None
    code: str | None
    headers: Mapping[str, str] = {}

    def body(self) -> dict[str, Any]:
        """Return OpenAI's error object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def all_headers(self) -> dict[str, str]:
        """Return the headers; an answer that asks to come again says when."""
        headers = dict(self.headers)
        if self.status in (429, 503):
            headers.setdefault("Retry-After", str(ResourceError.retry_after_s))
        return headers

    def response(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse(self.body(), status_code=self.status, headers=self.all_headers())


class BodyTooSlow(HTTPException):
    """A body did not arrive in its time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(
            408, f"the request body did not arrive within {limit_s:g} s", {"Connection": "close"}
        )


class BodyRefused(HTTPException):
    """A body is not taken now; an HTTPException, because FastAPI calls everything else a wrong body."""

    def __init__(self, message: str) -> None:
        super().__init__(503, message)


class BodyTooLarge(HTTPException):
    """More bytes arrived than a body may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"the request body is over the limit of {limit:,} bytes")


class BadValue(HTTPException):
    """A part of the request that is refused before anything reads it.

    Args:
        path: Keys and list positions to it.
    """

    def __init__(self, message: str, path: Sequence[str | int] = (), *, status: int = 400) -> None:
        where = _written(path)
        super().__init__(status, f"{where}: {message}" if where else message)
        self.param = ".".join(map(str, path)) or None


def problem_of(error: Exception, request_id: str) -> Problem:
    """Translate any exception.

    A client shows its user the message alone, so hints and row numbers are put there.
    """
    if isinstance(error, (DamagedError, DamagedRowError)):
        # Where it lies on the server is the operator's to know.
        _LOG.error("%s: %s", request_id, error)
        told = f"what this server keeps of it is damaged; its log says what mends it under {request_id}"
        return _of_tunery(error)._replace(message=told, param=None)
    if isinstance(error, TuneryError):
        return _of_tunery(error)
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    if isinstance(error, StarletteHTTPException):
        return _of_http(error)
    if is_out_of_memory(error):
        return _of_tunery(ResourceError("there is not enough memory for this request now"))
    if isinstance(error, OSError) and error.errno in _SHORTAGES:
        return _of_tunery(ResourceError(_SHORTAGES[error.errno]))
    return Problem(
        500,
        f"something broke inside the server; its log has the details under {request_id}",
        "server_error",
        None,
        "internal_error",
    )


def install(app: FastAPI) -> None:
    """Make the app answer every error through :func:`problem_of`.

    Unexpected exceptions are not handled here but in the outermost middleware, which logs them once.
    """

    async def handle(request: Request, error: Exception) -> JSONResponse:
        return answer_to(request, error)

    for kind in HANDLED:
        app.add_exception_handler(kind, handle)


HANDLED = (TuneryError, RequestValidationError, StarletteHTTPException)
"""Exceptions that are answers."""


def answer_to(request: Request, error: Exception) -> JSONResponse:
    """Return what a request gets whose route raised an error."""
    problem = problem_of(error, request.scope.get("request_id", ""))
    if isinstance(error, StarletteHTTPException):
        problem = _told_from(request, error, problem)
    return problem.response()


def _told_from(request: Request, error: StarletteHTTPException, problem: Problem) -> Problem:
    """Return a problem with what only its request tells: which path it was, which methods that knows."""
    if error.status_code == 405:
        return problem._replace(headers={**problem.headers, "Allow": ", ".join(allowed_methods(request))})
    if error.status_code != 404 or error.detail != "Not Found":
        return problem
    problem = problem._replace(message=why_not_found(request))
    if not known_elsewhere(request.scope["path"]):
        return problem
    return problem._replace(code=ENDPOINT_NOT_SERVED, headers={**problem.headers, **STILL_UP})


def _of_tunery(error: TuneryError) -> Problem:
    message = f"{error.message}\ntry: {error.hint}" if error.hint else error.message
    usual = "server_error" if error.http_status >= 500 else "invalid_request_error"
    kind = _TYPES.get(error.http_status, usual)
    # OpenAI's clients retry every 409 unless told not to; ours are final.
    headers = {"x-should-retry": "false"} if error.http_status == 409 else {}
    if isinstance(error, ResourceError):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))  # whoever waits so long is let in
    if isinstance(error, UpstreamRefusedError):
        headers["x-should-retry"] = "false"
    if isinstance(error, ThrottledError):
        headers["retry-after-ms"] = str(math.ceil(error.retry_after_s * 1000))
    if isinstance(error, QuotaError):
        kind = error.code  # OpenAI's clients know it by both
        headers["x-should-retry"] = "false"
    return Problem(error.http_status, message, kind, error.param, error.code, headers)


def _of_validation(error: RequestValidationError) -> Problem:
    found = error.errors()
    problems = list(dict.fromkeys(_one(e) for e in found[:_TOLD]))
    message = problems[0]
    if len(problems) > 1 or len(found) > _TOLD:
        left = max(0, len(found) - _TOLD)
        lines = first_of(problems, _TOLD, total=len(problems) + left)
        message = f"{len(problems) + left} problems in the request:" + "".join(f"\n  - {p}" for p in lines)
    first = error.errors()[0]
    location = [str(p) for p in _location(first)]
    code = UNKNOWN_PARAMETER if first["type"] == UNKNOWN_PARAMETER else "invalid_request"
    return Problem(400, message, "invalid_request_error", ".".join(location) or None, code)


def _one(error: Mapping[str, Any]) -> str:
    where = _written(_location(error))
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "json_invalid":
        return (
            f"the body is not JSON: {error.get('ctx', {}).get('error', message)} at byte {error['loc'][-1]}"
        )
    return f"{where}: {message}" if where else message


def _written(path: Sequence[str | int]) -> str:
    """Return a place in a body as people write it: ``messages[0].content``."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")


def _location(error: Mapping[str, Any]) -> Sequence[str | int]:
    """Drop where FastAPI looked (``body``, ``query``) and the arms of unions that pydantic adds."""
    parts = list(error["loc"])
    if parts and parts[0] in {"body", "query", "path", "header"}:
        parts = parts[1:]
    return [p for p in parts if isinstance(p, int) or p.isidentifier()]


def _of_http(error: StarletteHTTPException) -> Problem:
    status = 400 if error.status_code == 422 else error.status_code
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    message = str(error.detail)
    if status == 405:
        message = "this path does not know that method"
    param, code = getattr(error, "param", None), "invalid_request" if status == 400 else _CODES.get(status)
    return Problem(status, message, kind, param, code, error.headers or {})
