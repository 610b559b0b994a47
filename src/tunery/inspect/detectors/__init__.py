"""Detectors: one file each, found by walking this package.

A detector is a module here with two names:

``KINDS``
    The kinds of findings it reports: their words, titles, severities and what to do about them.
``find``
    A function to an iterable of findings. Its parameters say what it needs by their names: ``columns`` (the
    rows), ``labels`` (the class of each row, None for free text) or ``rejected`` (the answer not preferred,
    None where a row has none), each given where some row has one, ``likeness`` (the prompts compared), any
    setting of :class:`~tunery.inspect.config.InspectConfig`, any field of
    :class:`~tunery.inspect.inspect.Given`. A detector does not run where a parameter without a default would
    be None.

One more is a file here and its test.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tunery.core.finding import Finding, FindingKind
from tunery.core.plugins import load_plugin, plugin_names


class Detector(NamedTuple):
    """One module of this package."""

    name: str
    kinds: tuple[FindingKind, ...]
    find: Callable[..., Iterable[Finding]]

    def run(self, given: Mapping[str, Any]) -> Iterable[Finding]:
        """Return what it finds; nothing where something that it needs is not there.

        Args:
            given: Name to value, None for what is not there.

        Raises:
            TypeError: It asks for a name that inspection does not know.
        """
        arguments = {}
        for name, parameter in inspect.signature(self.find).parameters.items():
            if name not in given:
                raise TypeError(f"detector {self.name} asks for {name}; there is: {', '.join(sorted(given))}")
            if given[name] is not None:
                arguments[name] = given[name]
            elif parameter.default is parameter.empty:
                return []
        return self.find(**arguments)


def detectors() -> list[Detector]:
    """Return all detectors, by name."""
    modules = {name: load_plugin(__name__, "detector", name) for name in plugin_names(__name__)}
    return [Detector(name, module.KINDS, module.find) for name, module in modules.items()]


def finding_kinds() -> dict[str, FindingKind]:
    """Return every kind of finding that some detector reports, by its name."""
    return {kind.name: kind for detector in detectors() for kind in detector.kinds}
