"""Where the model came from, how it was made, and on what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml
from pydantic_core import to_jsonable_python

from tunery.core.figures import count, counted, size
from tunery.report.inputs import ReportInputs

_SECRET = re.compile(
    r"api_?key|password|passwd|secret|credential|(access|auth|bearer|hub|hf)_token|^token$", re.IGNORECASE
)
_URL_LOGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)


class Fact(NamedTuple):
    """One line about a node."""

    name: str
    value: str
    code: bool = False
    """True for hashes and ids."""


class Node(NamedTuple):
    """One artifact on the way from the model back to the raw files."""

    kind: str
    name: str
    facts: tuple[Fact, ...]


class EnvironmentGroup(NamedTuple):
    """Named values of the environment."""

    title: str
    rows: tuple[tuple[str, str], ...]


def lineage_of(inputs: ReportInputs) -> list[Node]:
    """Return the chain, the model version first, its sources last; what does not exist is left out."""
    nodes = []
    run, adapter, dataset = inputs.run, inputs.adapter, inputs.dataset
    if run.model_version:
        facts = [Fact("made by run", run.id, code=True)]
        if inputs.tuned:
            facts.append(Fact("evaluation", inputs.tuned.id, code=True))
        if inputs.gate:
            facts.append(Fact("gate", f"{inputs.gate.id}, {'passed' if inputs.gate.passed else 'refused'}"))
        nodes.append(Node("Model version", run.model_version, tuple(facts)))
    if adapter:
        facts = [
            Fact("weights", f"sha256:{adapter.sha256}", code=True),
            Fact("chat template", f"sha256:{adapter.chat_template_sha256}", code=True),
        ]
        nodes.append(Node("is the adapter" if nodes else "Adapter", adapter.id, tuple(facts)))
        base = adapter.base
        facts = [
            Fact("hash", f"sha256:{base.sha256}", code=True),
            Fact("parameters", count(base.parameters)),
            Fact("licence", base.license or "not stated"),
        ]
        facts += [Fact("origin", base.origin)] if base.origin else []
        nodes.append(Node("on the base model", base.name, tuple(facts)))
    if dataset:
        facts = [
            Fact("content", f"sha256:{dataset.content_sha256}", code=True),
            Fact("rows", count(dataset.rows_kept)),
        ]
        facts += [Fact("grown from", parent, code=True) for parent in dataset.parents]
        nodes.append(
            Node("trained on the dataset version" if adapter else "Dataset version", dataset.id, tuple(facts))
        )
        nodes += [
            Node(
                "read from the file",
                source.path,
                (
                    Fact("content", f"sha256:{source.sha256}", code=True),
                    Fact("rows", f"{counted(source.rows, 'row')}, read as {source.shape}"),
                ),
            )
            for source in dataset.sources
        ]
    return nodes


def settings_text(recipe: Mapping[str, Any]) -> str:
    """Return the recipe as YAML, with anything that looks like a secret blotted out."""
    plain = to_jsonable_python(recipe, fallback=str, serialize_unknown=True)
    return yaml.safe_dump(_blotted(plain), sort_keys=False, allow_unicode=True, width=100)


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


def environment_of(environment: Mapping[str, Any]) -> list[EnvironmentGroup]:
    """Group the environment's values: plain ones first, then each nested mapping under its own name."""
    plain = _blotted(to_jsonable_python(environment, fallback=str, serialize_unknown=True))
    loose = tuple((_spoken(k), _written(k, v)) for k, v in plain.items() if not isinstance(v, dict))
    groups = [EnvironmentGroup("General", loose)] if loose else []
    for key, value in plain.items():
        if isinstance(value, dict) and value:
            rows = tuple((str(k), _written(str(k), v)) for k, v in value.items())
            groups.append(EnvironmentGroup(_spoken(key).capitalize(), rows))
    return groups


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
