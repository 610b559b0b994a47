"""One replica of the server for a host that brings its own HTTP server, such as Ray Serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI

from tunery.api.config import ServerSettings
from tunery.core.config import parse_settings


def replica_app(settings: Mapping[str, Any] | None = None) -> Callable[[], FastAPI]:
    """Return what makes the app, to be called where it is to run.

    The home is that of ``TUNERY_HOME``, shared by all replicas, with the database of ``TUNERY_DATABASE_URL``.
    Settings are checked here and now; ``host``, ``port`` and ``connections`` are the host's business.

    Raises:
        ConfigError: A setting is wrong.
    """
    parsed = parse_settings(ServerSettings, {"run_jobs": False, **(settings or {})}, where="serve")

    def make() -> FastAPI:
        from tunery.api.app import create_app
        from tunery.api.server import served_bases
        from tunery.core.progress import Silent
        from tunery.store.workspace import Workspace

        workspace = Workspace.open()
        _, bases = served_bases(workspace, parsed, progress=Silent())
        return create_app(workspace, bases, parsed)

    return make
