"""A server that one process has started and others use: its address goes to them through the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from tunery.serve.engines import EngineSettings
from tunery.serve.engines.upstream.server import Server
from tunery.serve.engines.vllm import VllmSettings

_ADDRESS, _KEY = "TUNERY_SHARED_ENGINE", "TUNERY_SHARED_ENGINE_KEY"


def is_shared(settings: EngineSettings) -> bool:
    """Return whether an engine is a server started here that other processes can use, adapters and all."""
    return isinstance(settings, VllmSettings) and bool(settings.command)


def shared_environment(server: Server, settings: EngineSettings, base_sha256: str) -> dict[str, str]:
    """Return the variables by which processes started from this one find a server.

    Args:
        server: Where it is, with its key.
        settings: What it was started with.
        base_sha256: Of the base that it answers with.
    """
    found = {"base": base_sha256, "identity": settings.identity, "base_url": server.base_url}
    return {_ADDRESS: json.dumps(found), _KEY: server.key or ""}


def sharing(
    settings: EngineSettings, base_sha256: str, environment: Mapping[str, str] = os.environ
) -> EngineSettings:
    """Return settings that use the server of the process that started this one; the same where it has none.

    A second one beside it would have no memory. One of another base, or of another command, is not used.
    """
    if not isinstance(settings, VllmSettings) or not settings.command or _ADDRESS not in environment:
        return settings
    found = json.loads(environment[_ADDRESS])
    if (found["base"], found["identity"]) != (base_sha256, settings.identity):
        return settings
    there = {"command": (), "base_url": found["base_url"], "api_key_env": _KEY}
    return settings.model_copy(update={**there, "max_lora_rank": settings.rank_limit})
