"""Engines: what computes completions, behind the port of :mod:`tunery.core.engine`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunery.serve.config import EngineSettings

if TYPE_CHECKING:
    from tunery.core.engine import Engine


def open_engine(base: Path, settings: EngineSettings | None = None) -> Engine:
    """Open the engine for a base model: the one place that says which engine computes.

    Args:
        base: Hugging Face folder.
        settings: How it spends memory and time.

    Raises:
        ConfigError: The engine cannot serve this base.
        ResourceError: Not enough memory.
    """
    from tunery.serve.engines.embedded.engine import EmbeddedEngine

    return EmbeddedEngine(base, settings=settings)
