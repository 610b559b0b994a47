"""A deployment folder: a version's weights as they will be served, measured first, and the target's files."""

from __future__ import annotations

import importlib.metadata
import json
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tunery.core.errors import ConfigError, ConflictError, ResourceError
from tunery.core.figures import usd
from tunery.deploy.targets import Deployment, Price, files_of, price_of, target_of
from tunery.registry.export import export
from tunery.registry.versions import resolve
from tunery.store.workspace import Workspace

MODEL = "model"
"""Folder of the weights in a deployment folder."""
_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$")
"""What Kubernetes, SageMaker, Modal and Hugging Face all take as a name."""


class Written(NamedTuple):
    """A deployment folder."""

    folder: Path
    deployment: Deployment
    price: Price | None
    """Of one machine of it; None where no report of it is known."""
    next_step: str
    """What to type in the folder."""

    @property
    def cost(self) -> str:
        """What it costs, in a sentence."""
        if self.price is None:
            return "what an hour costs is not known here: see the price list of whoever runs the machines"
        hourly, day = self.price.usd_per_hour, f"{self.price.read_on:%d %B %Y}".lstrip("0")
        replicas = self.deployment.replicas
        total = f", {usd(hourly * replicas)} for {replicas} of them" if replicas > 1 else ""
        return (
            f"{self.deployment.machine}: {usd(hourly)} for each hour that it runs{total} "
            f"(list price as of {day}; check {self.price.source})"
        )


def write_deployment(
    workspace: Workspace,
    target: str,
    folder: Path,
    deployment: Deployment,
    *,
    check: Callable[[Path], None] | None = None,
) -> Written:
    """Write a deployment folder; it appears whole or not at all.

    Args:
        workspace: Where the version lies.
        target: One of :func:`~tunery.deploy.targets.target_names`.
        folder: What to make; an empty one may exist.
        deployment: What is to run there, as :func:`planned_deployment` returns it.
        check: Given the merged weights before they are kept; what it raises leaves nothing behind.

    Raises:
        ConflictError: The folder holds something.
        ResourceError: It cannot be written.
        TuneryError: As :func:`tunery.registry.export.export`.
    """
    meant, found = folder.expanduser().absolute(), target_of(target)
    partial = meant.with_name(f"{meant.name}.{secrets.token_hex(4)}.partial")
    try:
        if meant.exists() and (not meant.is_dir() or any(meant.iterdir())):
            raise ConflictError(
                f"{meant} holds something already and is not overwritten",
                hint="give a folder that does not exist or is empty",
            )
        partial.mkdir(parents=True)
        if deployment.ref is not None:
            weights = export(workspace, deployment.ref, partial / MODEL, form="merged", check=check)
            deployment = _with_window(deployment, weights)
        for name, text in files_of(target, deployment).items():
            (partial / name).write_text(text, encoding="utf-8")
        if meant.exists():
            meant.rmdir()
        partial.rename(meant)
    except OSError as error:
        raise ResourceError(f"{meant} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _, price = price_of(target, deployment.machine)
    return Written(meant, deployment, price, found.next_step)


def planned_deployment(
    workspace: Workspace,
    target: str,
    ref: str | None,
    *,
    machine: str | None = None,
    replicas: int = 1,
    name: str | None = None,
) -> Deployment:
    """Return what a deployment of a version, or of the platform, would be.

    Raises:
        NotFoundError: There is no such target or version.
        ConfigError: The target serves one version and none is named, or the other way round; it has no such
            machine; or the name is none that the targets take.
    """
    found = target_of(target)
    if found.serves != (ref is not None):
        raise ConfigError(
            f"{target} serves one version; name it"
            if found.serves
            else f"{target} runs the platform with all its versions; leave {ref} out",
            hint="tunery registry ls"
            if found.serves
            else f"tunery deploy export --target {target} --to FOLDER",
        )
    version = resolve(workspace, ref) if ref is not None else None
    called = name or (_slug(f"{version.name}-v{version.version}") if version else "tunery")
    if not _NAME.fullmatch(called):
        raise ConfigError(
            f"{called!r:.80} cannot name a deployment: up to 50 small letters, digits and hyphens",
            hint="--name support-intents",
        )
    chosen, _ = price_of(target, machine)
    return Deployment(
        called,
        chosen,
        replicas,
        version.ref if version else None,
        version.system_prompt if version else None,
        version=importlib.metadata.version("tunery"),
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[-50:].strip("-")


def _with_window(deployment: Deployment, weights: Path) -> Deployment:
    """Return the deployment with the window that its model was made for, at most 8,192 tokens.

    A server reserves memory for the window; what is longer is asked for by hand.
    """
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    made_for = config.get("max_position_embeddings")
    return replace(deployment, window=min(int(made_for), 8192)) if made_for else deployment
