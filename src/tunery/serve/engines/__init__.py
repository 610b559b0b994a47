"""Engines: what computes completions, behind the port of :mod:`tunery.core.engine`.

An engine is a module or a package here, and its name is what settings call ``kind``. It gives:

* ``SETTINGS``, its subclass of :class:`EngineSettings`, whose ``kind`` is ``Literal["its name"]``;
* ``open(base, settings)``, which returns a :class:`tunery.core.engine.Engine` or raises ``ConfigError`` or
  ``ResourceError``. What computes is imported there, because reading a recipe must not load torch.

Adding one is adding a file and its test.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

from tunery.core.config import Settings
from tunery.core.ids import canonical_json, sha256_text
from tunery.core.plugins import load_plugin, plugin_names
from tunery.core.training import BaseModelInfo
from tunery.core.variants import Variants

if TYPE_CHECKING:
    from tunery.core.engine import Engine

DEFAULT = "embedded"
"""Engine of settings that name none."""


class EngineSettings(Settings):
    """Which engine answers; each kind adds settings of its own."""

    kind: str
    """Name of the engine."""

    @property
    def identity(self) -> dict[str, Any]:
        """What answers depend on, JSON-ready: another identity is another evaluation."""
        return self.model_dump(mode="json")

    @property
    def window(self) -> int | None:
        """Longest prompt with its answer that these settings allow [tokens]; None where they set no limit."""
        return None

    @property
    def own_base(self) -> str | None:
        """Name of the only model that it answers as, where that is no folder here; None for any base."""
        return None

    @property
    def slots(self) -> int:
        """Requests that it computes at the same time [count]."""
        return 32

    @property
    def ahead(self) -> int | None:
        """Requests without a token yet that it should hold at most [count]; None for as many as there are."""
        return None

    @property
    def cache_bytes(self) -> int:
        """Memory that the engine may fill beside weights and running requests [bytes]."""
        return 0


class _EngineModule(Protocol):
    SETTINGS: type[EngineSettings]

    def open(self, base: Path, settings: EngineSettings) -> Engine: ...


_KINDS = Variants(
    "engine",
    key="kind",
    find=lambda: {name: _module(name).SETTINGS for name in plugin_names(__name__)},
    default=DEFAULT,
)
AnyEngine = Annotated[EngineSettings, _KINDS]
"""Type of a setting that holds the settings of any engine, told apart by ``kind``."""


def engine_settings(values: Mapping[str, Any] | None = None) -> EngineSettings:
    """Read the settings of the engine that ``kind`` names, the default one where it is left out.

    Raises:
        ValueError: There is no such engine, or one of its settings is wrong; pydantic's own error, so that
            settings around these report it with the others.
    """
    return cast(EngineSettings, _KINDS.read(values or {}))


def base_behind(settings: EngineSettings) -> BaseModelInfo:
    """Return what stands for the weights of a model behind somebody's endpoint, with how it is reached.

    Args:
        settings: Of an engine whose ``own_base`` is a name.
    """
    hosted = settings.model_dump(mode="json")
    # By all of it, and not by what answers depend on alone: two keys of one endpoint are two accounts.
    sha256 = sha256_text(canonical_json(hosted))
    return BaseModelInfo(name=settings.own_base or "", sha256=sha256, path="", parameters=0, hosted=hosted)


def open_engine(base: Path, settings: EngineSettings | None = None) -> Engine:
    """Open an engine on a base model.

    Args:
        base: Hugging Face folder.
        settings: Which engine and how it works; the default engine as it comes when None.

    Raises:
        ConfigError: The engine cannot serve this base.
        ResourceError: Not enough memory.
    """
    settings = settings or engine_settings()
    return _module(settings.kind).open(base, settings)


def _module(name: str) -> _EngineModule:
    return cast(_EngineModule, load_plugin(__name__, "engine", name))
