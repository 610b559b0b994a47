"""How the model was made, and on what: settings and environment, without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import yaml
from pydantic_core import to_jsonable_python

from tunery.core.figures import count, size

_SECRET = re.compile(
    r"api_?key|password|passwd|secret|credential|(access|auth|bearer|hub|hf)_token|^token$", re.IGNORECASE
)
_URL_LOGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)


def settings_text(recipe: Mapping[str, Any]) -> str:
    """Return the recipe as YAML, with anything that looks like a secret blotted out."""
    return yaml.safe_dump(plain_settings(recipe), sort_keys=False, allow_unicode=True, width=100)


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings made of what JSON has, with anything that looks like a secret blotted out."""
    plain = to_jsonable_python(settings, fallback=str, serialize_unknown=True, inf_nan_mode="null")
    return cast(dict[str, Any], _blotted(plain))


def _blotted(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _blotted(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_blotted(v, key) for v in value]
    if not isinstance(value, str):
        return value
    if _SECRET.search(key):
        return "(hidden)"
    return _URL_LOGIN.sub(r"\g<scheme>(hidden)@", value)


def environment_of(environment: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Group the environment's values: plain ones first, then each nested mapping under its own name."""
    plain = plain_settings(environment)
    loose = {_spoken(k): _written(k, v) for k, v in plain.items() if not isinstance(v, dict)}
    groups = {
        _spoken(key).capitalize(): {str(k): _written(str(k), v) for k, v in value.items()}
        for key, value in plain.items()
        if isinstance(value, dict)
    }
    return {title: rows for title, rows in {"General": loose, **groups}.items() if rows}


def _spoken(key: str) -> str:
    return str(key).replace("_", " ")


def _written(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and key.endswith("_bytes"):
        return size(value)
    if isinstance(value, int):
        return count(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(str(v) for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return "none" if value is None else str(value)
