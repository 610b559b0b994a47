"""Deployment targets: folders that put a version, or the whole platform, on somebody's machines.

A target is a module here, its name what ``tunery deploy export --target`` takes. It gives ``TARGET``, a
:class:`Target`; its files are Jinja templates in ``templates/NAME/``, each written under its own name without
``.j2``. Adding one is adding a file, its templates and a test.

Prices are list prices as others reported them, with place and date, because they change: what is printed says
so, and the bill of whoever runs the machines decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from importlib import resources
from typing import Any, NamedTuple, cast

from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.plugins import load_plugin, plugin_names

VLLM = "0.32.0"
"""Version of vLLM that generated folders name; its CPU build was tried (`tests/clients/test_vllm.py`)."""


class Price(NamedTuple):
    """What one machine costs."""

    usd_per_hour: float
    """List price of a running hour [US dollars]."""
    read_on: date
    """Day of the report that it is taken from."""
    source: str
    """Where it was reported; look there again."""


@dataclass(frozen=True, slots=True)
class Target:
    """Somewhere to deploy to."""

    title: str
    """What people call it."""
    serves: bool
    """Whether it serves one version's merged weights; False where it runs the platform with all versions."""
    machines: Mapping[str, Price | None]
    """Machines by the target's own names, the default first; None where no report of the price is known."""
    next_step: str
    """The command to type in the folder."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is to run."""

    name: str
    """Of the deployment: small letters, digits and hyphens."""
    machine: str
    """One of the target's."""
    replicas: int = 1
    """Copies that run at once [count]."""
    ref: str | None = None
    """The version, ``name@N``; None for all of a home."""
    system_prompt: str | None = None
    """What the version's conversations begin with; the gateway in front writes it."""
    window: int | None = None
    """Longest prompt with its answer [tokens]."""
    version: str = ""
    """Of Tunery."""

    @property
    def served_name(self) -> str:
        """Name that the engine answers to."""
        return (self.ref or self.name).partition("@")[0]


def target_names() -> tuple[str, ...]:
    """Return what ``--target`` takes, sorted."""
    return tuple(name.replace("_", "-") for name in plugin_names(__name__))


def target_of(name: str) -> Target:
    """Return a target.

    Raises:
        NotFoundError: There is none of that name; says which there are.
    """
    if name not in target_names():
        raise NotFoundError.of("target", name, target_names())
    return cast(Target, load_plugin(__name__, "target", name.replace("-", "_")).TARGET)


def price_of(name: str, machine: str | None) -> tuple[str, Price | None]:
    """Return a target's machine, the default where none is named, with what it costs.

    Raises:
        NotFoundError: There is no such target.
        ConfigError: It has no such machine; says which.
    """
    machines = target_of(name).machines
    chosen = machine or next(iter(machines))
    if chosen not in machines:
        raise ConfigError(
            f"{name} has no machine {chosen!r} that is known here", hint=f"--machine {', '.join(machines)}"
        )
    return chosen, machines[chosen]


def files_of(name: str, deployment: Deployment) -> dict[str, str]:
    """Return the text of each file of a deployment folder, by its path in the folder.

    Names and prompts are written as literals of the file's language, so that none of them is code.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - no page
    environment.filters["literal"] = _literal
    folder = resources.files(__name__) / "templates" / name.replace("-", "_")
    values: dict[str, Any] = {**asdict(deployment), "served_name": deployment.served_name, "vllm": VLLM}
    return {
        entry.name.removesuffix(".j2"): environment.from_string(entry.read_text(encoding="utf-8")).render(
            values
        )
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".j2")
    }


def _literal(value: object) -> str:
    """Return a text or number as JSON, which Python and YAML read as the same value."""
    return "None" if value is None else json.dumps(value, ensure_ascii=True)
