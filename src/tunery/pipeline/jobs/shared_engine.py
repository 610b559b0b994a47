"""The engine that serves, given to the processes that run jobs where it is a server that they can use too."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tunery.pipeline.gateway.bases import BasePool
from tunery.serve.engines import EngineSettings
from tunery.serve.engines.upstream.shared import is_shared, shared_environment


def engine_for_jobs(bases: BasePool, settings: EngineSettings) -> Callable[[], Mapping[str, str]] | None:
    """Return what gives workers the address of the server behind the default base's engine.

    It starts that server where it does not run yet, because a job would start it otherwise, and the first
    request a second one. None where an engine is none that processes can share.
    """
    if not is_shared(settings):
        return None

    def environment() -> Mapping[str, str]:
        from tunery.serve.engines.upstream.engine import UpstreamEngine

        opened = bases.get(bases.default)
        engine = opened.engine
        server = engine.started_server if isinstance(engine, UpstreamEngine) else None
        return {} if server is None else shared_environment(server, settings, opened.info.sha256)

    return environment
