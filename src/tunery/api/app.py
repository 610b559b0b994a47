"""The app: routes, error translation and background work around one workspace."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response

import tunery
from tunery.api import errors
from tunery.api.boundary import Boundary
from tunery.api.config import ServerSettings
from tunery.api.metrics import Metrics
from tunery.api.routes import feedback, files, generate, jobs, models, rollouts, stored
from tunery.api.services import Services, Shared
from tunery.core.errors import ResourceError, TuneryError
from tunery.deploy import canary
from tunery.pipeline.gateway.bases import BasePool
from tunery.pipeline.gateway.gateway import Gateway
from tunery.pipeline.gateway.log import RequestLog
from tunery.pipeline.jobs.supervisor import Supervisor
from tunery.store.workspace import Workspace
from tunery.text.pii import mask

_LOG = logging.getLogger(__name__)


def create_app(workspace: Workspace, bases: BasePool, settings: ServerSettings) -> FastAPI:
    """Build the server's app.

    The caller opens and closes workspace and bases; the app's own threads (request log, canaries, jobs)
    live between its startup and its shutdown.
    """
    metrics = Metrics()
    log = RequestLog(workspace, lambda texts: mask(texts).texts, observe=metrics.observe)
    gateway = Gateway(workspace, bases, log, max_in_flight=settings.max_in_flight)
    metrics.watch(lambda: gateway.in_flight, lambda: Counter(workspace.jobs.counts()))
    app = FastAPI(
        title="Tunery", version=tunery.__version__, lifespan=_lifespan, docs_url=None, redoc_url=None
    )
    supervisor = Supervisor(workspace, settings.jobs) if settings.run_jobs else None
    app.state.services = Services(workspace, settings, bases, gateway, log, metrics, supervisor)
    errors.install(app)
    for routes in (generate, stored, files, jobs, models, feedback, rollouts):
        app.include_router(routes.router, prefix="/v1")
    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/metrics", metrics_text, methods=["GET"])
    app.add_middleware(Boundary, workspace=workspace, settings=settings)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "x-should-retry"],
        )
    return app


def health(shared: Shared) -> dict[str, object]:
    """Say whether the server can answer: its database reads, no open engine has stopped, jobs are run.

    Raises:
        ResourceError: An engine, or what runs jobs, has stopped; says why.
    """
    base = shared.bases.default
    shared.workspace.jobs.list(limit=1)
    problems = [*shared.bases.problems()]
    if shared.supervisor is not None and (idle := shared.supervisor.problem()):
        problems.append(idle)
    if problems:
        raise ResourceError("; ".join(problems), hint="start the server again")
    return {
        "status": "ok",
        "version": tunery.__version__,
        "base": base.name,
        "engine_open": shared.bases.is_open(base),
    }


def metrics_text(shared: Shared) -> Response:
    """Return the metrics for Prometheus."""
    return Response(shared.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    shared: Services = app.state.services
    supervisor = shared.supervisor
    over = threading.Event()
    watch = threading.Thread(target=_watch_canaries, args=(shared, over), name="canaries", daemon=True)
    watch.start()
    if supervisor is not None:
        supervisor.start()
    try:
        yield
    finally:
        over.set()
        if supervisor is not None:
            await asyncio.to_thread(supervisor.stop)
        await asyncio.to_thread(watch.join, 10)
        await asyncio.to_thread(shared.log.close)


def _watch_canaries(shared: Services, over: threading.Event) -> None:
    while not over.wait(shared.settings.canary_interval_s):
        try:
            shared.log.flush()
            for ended in canary.sweep(shared.workspace):
                _LOG.warning("rollout %s of %s %s: %s", ended.id, ended.name, ended.status, ended.reason)
        except TuneryError as error:
            _LOG.warning("canaries cannot be judged now: %s", error.message)
        except Exception:
            # A canary that nobody watches is worse than a noisy log.
            _LOG.exception("judging canaries failed; it is tried again")
