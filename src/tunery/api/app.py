"""The app: routes, error translation and background work around one workspace."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response

import tunery
from tunery.api import errors, openapi
from tunery.api.audit import AuditTrail
from tunery.api.boundary import Boundary
from tunery.api.config import ServerSettings
from tunery.api.drain import Drain
from tunery.api.health import HealthWatch
from tunery.api.inside import line_sender
from tunery.api.metrics import Metrics
from tunery.api.routes import (
    audit,
    batches,
    checkpoints,
    embeddings,
    feedback,
    files,
    generate,
    graders,
    jobs,
    keys,
    models,
    responses,
    rollouts,
    stored,
    tokens,
    usage,
)
from tunery.api.routes import uploads as upload_routes
from tunery.api.services import AllServices, Everything
from tunery.api.shortcut import Shortcut
from tunery.api.uploads import Uploads
from tunery.core.access import Caller
from tunery.core.errors import ResourceError, TuneryError
from tunery.deploy import canary
from tunery.pipeline.batches.service import BatchService
from tunery.pipeline.gateway.answer import ANSWERED_BY
from tunery.pipeline.gateway.bases import BasePool, EngineState
from tunery.pipeline.gateway.conversations import Conversations
from tunery.pipeline.gateway.embedder import Embedder
from tunery.pipeline.gateway.gateway import Gateway
from tunery.pipeline.gateway.log import RequestLog
from tunery.pipeline.jobs.files import remove_expired
from tunery.pipeline.jobs.parts import end_uploads
from tunery.pipeline.jobs.shared_engine import engine_for_jobs
from tunery.pipeline.jobs.supervisor import Supervisor
from tunery.pipeline.webhooks.dispatch import Dispatcher
from tunery.store.workspace import Workspace
from tunery.text.pii import mask
from tunery.traffic.limits.open import open_meter
from tunery.traffic.limits.room import RATE_HEADERS

_LOG = logging.getLogger(__name__)
_EXPOSED = ("x-request-id", "x-should-retry", "retry-after", "retry-after-ms")
"""Headers that pages of other origins may read."""
_TIDY_S = 60.0
"""Pause between two looks for files whose life is over [s]."""


def create_app(workspace: Workspace, bases: BasePool, settings: ServerSettings) -> FastAPI:
    """Build the server's app.

    The caller opens and closes workspace and bases; the app's own threads (request log, canaries, jobs)
    live between its startup and its shutdown.
    """
    metrics = Metrics()
    log = RequestLog(
        workspace, lambda texts: mask(texts).texts, settings=settings.log, observe=metrics.observe
    )
    meter = open_meter(workspace, settings.limits)
    gateway = Gateway(
        workspace,
        bases,
        log,
        max_in_flight=settings.max_in_flight,
        meter=meter,
        traffic=settings.traffic,
    )
    metrics.watch(lambda: gateway.in_flight, workspace.jobs.counts)
    metrics.watch_log(lambda: log.state)
    metrics.watch_engines(gateway.engines)
    metrics.watch_limits(lambda: dict(meter.refused), lambda: meter.problem is None)
    app = FastAPI(
        title="Tunery",
        version=tunery.__version__,
        lifespan=_lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    trail = AuditTrail(workspace)
    drain, uploads = Drain(settings.grace_s), Uploads(settings.uploads)
    watch = HealthWatch(
        workspace,
        bases,
        min_free_bytes=settings.min_free_bytes,
        without_database_s=settings.traffic.cache.stale_s,
    )
    supervisor = (
        Supervisor(workspace, settings.jobs, environment=engine_for_jobs(bases, settings.engine))
        if settings.run_jobs
        else None
    )
    service = BatchService(
        workspace,
        settings.batches,
        line_sender(app, workspace),
        max_line_bytes=settings.max_body_bytes,
    )
    shared = AllServices(
        workspace,
        settings,
        bases,
        gateway,
        log,
        metrics,
        drain,
        uploads,
        watch,
        trail,
        service,
        Conversations(settings.conversations),
        Dispatcher(workspace, settings.webhooks),
        Embedder(settings.embeddings),
        supervisor,
    )
    app.state.services = shared
    errors.install(app)
    for routes in (
        generate,
        responses,
        embeddings,
        stored,
        files,
        upload_routes,
        batches,
        checkpoints,
        jobs,
        graders,
        models,
        feedback,
        rollouts,
        keys,
        audit,
        usage,
    ):
        app.include_router(routes.router, prefix="/v1")
    app.include_router(tokens.router)
    app.add_api_route("/version", tokens.version, methods=["GET"])
    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/health/live", live, methods=["GET"])
    app.add_api_route("/metrics", metrics_text, methods=["GET"])
    app.add_api_route("/openapi.json", openapi.route_of(app), methods=["GET"], include_in_schema=False)
    called = [*generate.router.routes, *responses.router.routes, *embeddings.router.routes]
    app.add_middleware(Shortcut, routes=called, prefix="/v1")
    app.add_middleware(Boundary, workspace=workspace, settings=settings, trail=trail, drain=drain)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=[
                "x-request-id",
                "x-should-retry",
                "retry-after",
                "retry-after-ms",
                *ANSWERED_BY,
                *RATE_HEADERS,
            ],
        )
    return app


async def health(shared: Everything) -> dict[str, object]:
    """Say whether requests can be answered: engines, database, disk, records, jobs; for who sends them here.

    Where calls are answered although they cannot be recorded or counted in limits, the database is away, or
    an engine is left alone, ``status`` is ``degraded``.

    Raises:
        ResourceError: They cannot; says why.
    """
    shared.log.check()
    recorded = shared.log.state
    base = shared.bases.default
    problems = shared.watch.problems()
    if shared.supervisor is not None and (idle := shared.supervisor.problem()):
        problems.append(idle)
    if shared.drain.draining:
        problems.append("the server is shutting down")
    if problems:
        raise ResourceError("; ".join(problems))
    engines = shared.gateway.engines()
    counted = shared.gateway.meter.problem is None
    well = recorded.problem is None and shared.watch.database is None and counted
    well = well and all(engine.is_well for engine in engines)
    return {
        "status": "ok" if well else "degraded",
        "version": tunery.__version__,
        "base": base.name,
        "engine_open": shared.bases.is_open(base),
        "requests_in_flight": shared.gateway.in_flight,
        # Without reasons, which tell where upstreams are: who asks here has no key.
        "engines": [_without_reason(e) for e in engines],
        "database": shared.watch.database,
        "limits_counted": counted,
        "request_log": recorded._asdict(),
    }


def _without_reason(engine: EngineState) -> dict[str, object]:
    told: dict[str, object] = {n: v for n, v in engine._asdict().items() if n not in ("reason", "upstreams")}
    if engine.upstreams:
        told["upstreams"] = [
            {name: value for name, value in one._asdict().items() if name != "reason"}
            for one in engine.upstreams
        ]
    return told


async def live() -> dict[str, str]:
    """Say that the process runs; for whoever starts it again when it does not."""
    return {"status": "alive"}


def metrics_text(request: Request, shared: Everything) -> Response:
    """Return the metrics for Prometheus: a key sees its project's; this machine, without one, sees all."""
    caller: Caller | None = request.scope["caller"]
    text = shared.metrics.text(caller.project if caller is not None and caller.key_id else None)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    shared: AllServices = app.state.services
    supervisor = shared.supervisor
    over = threading.Event()
    canaries = threading.Thread(target=_watch_canaries, args=(shared, over), name="canaries", daemon=True)
    # Not the event loop's own threads: those may all be at work when the end begins.
    ending = [
        threading.Thread(target=canaries.join, name="canaries-end", daemon=True),
        threading.Thread(target=shared.dispatcher.stop, name="webhooks-end", daemon=True),
    ]
    if supervisor is not None:
        ending.append(threading.Thread(target=supervisor.stop, name="supervisor-end", daemon=True))

    def end() -> None:
        over.set()
        shared.watch.stop()
        shared.uploads.close()
        shared.batches.stop()
        for thread in ending:
            thread.start()

    drain = shared.drain
    drain.at_once(end)
    drain.in_the_end(shared.gateway.cut)
    shared.gateway.meter.start()
    canaries.start()
    shared.watch.start()
    shared.batches.start()
    shared.dispatcher.start()
    if supervisor is not None:
        supervisor.start()
    try:
        yield
    finally:
        drain.begin()  # where no signal did
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(shared.batches.close(), drain.left_s)
        shared.gateway.close()
        shared.embedder.close()
        for thread in ending:
            await _joined(thread, drain)
        # The answers have ended, or were cut: what they used is booked, and their records are kept.
        closing = [
            _thread(shared.gateway.meter.close, "limits-end"),
            _thread(shared.log.close, "log-end"),
        ]
        for thread in closing:
            await _joined(thread, drain)
        await shared.bases.leave()


async def _joined(thread: threading.Thread, drain: Drain) -> None:
    """Wait for a thread as long as there is time, without holding one of the event loop's."""
    while thread.is_alive() and drain.left_s > 0:
        await asyncio.sleep(0.02)


def _thread(work: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


def _watch_canaries(shared: AllServices, over: threading.Event) -> None:
    tidied = 0.0
    while not over.wait(shared.settings.canary_interval_s):
        try:
            if time.monotonic() - tidied > _TIDY_S or not tidied:
                tidied = time.monotonic()
                remove_expired(shared.workspace)
                end_uploads(shared.workspace)
            shared.log.flush()
            for ended in canary.sweep(shared.workspace):
                shared.audit.rollout_ended(ended)
                _LOG.warning("rollout %s of %s %s: %s", ended.id, ended.name, ended.status, ended.reason)
        except TuneryError as error:
            _LOG.warning("canaries cannot be judged now: %s", error.message)
        except Exception:
            # A canary that nobody watches is worse than a noisy log.
            _LOG.exception("judging canaries failed; it is tried again")
