"""Settings of tracking: one group a sink, found by walking :mod:`tunery.track.sinks`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pydantic import Field, create_model

from tunery.core.config import Settings
from tunery.core.plugins import load_plugin, plugin_names
from tunery.track.sinks.sink import SinkKind

_SINKS = "tunery.track.sinks"


def sink_kinds() -> dict[str, SinkKind]:
    """Return every sink by the name of its file."""
    return {name: cast(SinkKind, load_plugin(_SINKS, "sink", name).SINK) for name in plugin_names(_SINKS)}


def settings_of_sinks(module: str) -> type[Settings]:
    """Return the group of settings that holds those of each sink, none of them on by default.

    Args:
        module: Where the class is to be found by its name, ``TrackConfig``.
    """
    groups: dict[str, Any] = {
        name: (kind.settings | None, Field(default=None, description=kind.settings.__doc__))
        for name, kind in sorted(sink_kinds().items())
    }
    groups["adapter"] = (
        bool,
        Field(
            default=False,
            description="Whether sinks that keep files get the adapter's too, not the report alone.",
        ),
    )
    about = "Trackers that parameters, metrics and files of each run go to; none where none is named."
    return create_model("TrackConfig", __base__=Settings, __module__=module, __doc__=about, **groups)


if TYPE_CHECKING:

    class TrackConfig(Settings):
        """Trackers that parameters, metrics and files of each run go to; none where none is named."""

        adapter: bool = False
else:
    TrackConfig = settings_of_sinks(__name__)
