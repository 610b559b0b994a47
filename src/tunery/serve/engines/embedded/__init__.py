"""The embedded engine: completions in process, by our own batching over PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunery.serve.engines.embedded.settings import EmbeddedSettings

if TYPE_CHECKING:
    from tunery.core.engine import Engine

SETTINGS = EmbeddedSettings


def open(base: Path, settings: EmbeddedSettings) -> Engine:
    """Load the base; raises as :class:`tunery.serve.engines.embedded.engine.EmbeddedEngine`."""
    from tunery.serve.engines.embedded.engine import EmbeddedEngine

    return EmbeddedEngine(base, settings=settings)
