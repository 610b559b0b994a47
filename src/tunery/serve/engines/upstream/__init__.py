"""An engine elsewhere: vLLM, another Tunery, or any server of OpenAI's completions.

Prompts go as token ids, written by the base's own template here, so that what was evaluated is what is
served. Adapters are loaded and unloaded at run time where the upstream is vLLM.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunery.serve.engines.upstream.settings import UpstreamSettings

if TYPE_CHECKING:
    from tunery.core.engine import Engine

SETTINGS = UpstreamSettings


def open(base: Path, settings: UpstreamSettings) -> Engine:
    """Connect; raises as :class:`tunery.serve.engines.upstream.engine.UpstreamEngine`."""
    from tunery.serve.engines.upstream.engine import UpstreamEngine
    from tunery.serve.engines.upstream.openai import OpenAIDialect
    from tunery.serve.engines.upstream.server import running_servers
    from tunery.serve.engines.upstream.vllm import VllmDialect

    dialect = VllmDialect() if settings.dialect == "vllm" else OpenAIDialect()
    return UpstreamEngine(base, settings, dialect, running_servers(settings))
