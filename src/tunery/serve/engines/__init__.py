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

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializeAsAny
from pydantic_core import CoreSchema, core_schema

from tunery.core.config import Settings
from tunery.core.errors import NotFoundError
from tunery.core.plugins import load_plugin, plugin_names

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
    def cache_bytes(self) -> int:
        """Memory that the engine may fill beside weights and running requests [bytes]."""
        return 0


class _EngineModule(Protocol):
    SETTINGS: type[EngineSettings]

    def open(self, base: Path, settings: EngineSettings) -> Engine: ...


class _ByKind:
    """Reads a mapping as the settings of the engine that its ``kind`` names."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: engine_settings(value) if isinstance(value, Mapping) else value, handler(source)
        )

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        kinds = [_module(name).SETTINGS for name in plugin_names(__name__)]
        return handler(core_schema.union_schema([kind.__pydantic_core_schema__ for kind in kinds]))


AnyEngine = Annotated[SerializeAsAny[EngineSettings], _ByKind()]
"""Type of a setting that holds the settings of any engine, told apart by ``kind``."""


def engine_settings(values: Mapping[str, Any] | None = None) -> EngineSettings:
    """Read the settings of the engine that ``kind`` names, the default one where it is left out.

    Raises:
        ValueError: There is no such engine, or one of its settings is wrong; pydantic's own error, so that
            settings around these report it with the others.
    """
    values = values or {}
    try:
        kind = _module(str(values.get("kind", DEFAULT)))
    except NotFoundError as error:
        raise ValueError(error.message) from None
    return kind.SETTINGS.model_validate(values)


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
