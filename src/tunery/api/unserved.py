"""What of OpenAI's API this server does not speak, so that a client is told so."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.requests import Request
from starlette.routing import Match

ENDPOINT_NOT_SERVED = "endpoint_not_served"
"""Code of the answer; none that means 'no such model'."""
STILL_UP = {"Retry-After": "0", "x-should-retry": "false"}
"""Headers of the answer. LiteLLM's router rests a deployment after any 404, for as long as ``Retry-After``
says and else for 5 s; OpenAI's own clients send nothing again where the second says so."""
_NOUNS = frozenset(
    [
        "agents",
        "assistants",
        "audio",
        "chatkit",
        "containers",
        "content_provenance_checks",
        "conversations",
        "decisions",
        "edits",
        "engines",
        "evals",
        "images",
        "live",
        "moderations",
        "organization",
        "projects",
        "realtime",
        "safety",
        "skills",
        "threads",
        "vaults",
        "vector_stores",
        "videos",
        "webhook_endpoints",
        "webhook_event_types",
    ]
)
_LONGER = ("fine_tuning/alpha/", "fine_tuning/checkpoints/")
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


def known_elsewhere(path: str) -> bool:
    """Return whether a path is one of OpenAI's, and not merely misspelt.

    >>> known_elsewhere("/v1/moderations"), known_elsewhere("/v1/moderation")
    (True, False)
    """
    root, _, rest = path.lstrip("/").partition("/")
    noun = rest.split("/", 1)[0]
    return root == "v1" and (noun in _NOUNS or rest.startswith(_LONGER))


def why_not_found(request: Request) -> str:
    """Return a sentence about a path that nothing answers."""
    path = request.scope["path"]
    if not known_elsewhere(path):
        return "no such path here; the API begins at /v1"
    return (
        f"{request.method} {path:.80} is not served here, and the server is up: "
        "of OpenAI's API there are responses, chat completions, completions, embeddings, models, files, "
        "batches and fine-tuning jobs"
    )


def allowed_methods(request: Request) -> Iterator[str]:
    """Yield the methods that a path knows."""
    for method in _METHODS:
        if is_served(request, method, request.scope["path"]):
            yield method


def is_served(request: Request, method: str, path: str) -> bool:
    """Return whether a route of the app answers a method of a path."""
    scope = {**request.scope, "method": method, "path": path}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
