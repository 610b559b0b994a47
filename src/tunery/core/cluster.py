"""The Ray cluster that work is spread over."""

from __future__ import annotations

import os
from typing import Any

from tunery.core.errors import ConfigError


def connect(setting: str) -> Any:
    """Return the ``ray`` module, connected to the cluster that ``RAY_ADDRESS`` names, else to one of this
    machine.

    Args:
        setting: What asked for it, such as ``data.engine``.

    Raises:
        ConfigError: Ray is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError(
            f"{setting} is ray, but Ray is not installed", hint="pip install 'tunery[ray]'", param=setting
        ) from None
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, include_dashboard=False)
    return ray
