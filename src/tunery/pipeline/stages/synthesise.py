"""Synthetic rows for a recipe: its training rows are the seeds, its held-out rows are kept away from."""

from __future__ import annotations

import os
from pathlib import Path

from tunery.core.errors import ConfigError
from tunery.core.ids import sha256_text
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import answers_to_reach, make_dataset, split_of
from tunery.store.exclusive import exclusive
from tunery.synthesise.config import SynthesiseConfig, TeacherConfig
from tunery.synthesise.output import Synthesised


def synthesise(context: RunContext, config: SynthesiseConfig, out: Path) -> Synthesised:
    """Have a teacher write training rows after those of the recipe's dataset version.

    The dataset version is built first, or found. Only rows of its train split are sent to the teacher, as
    curation left them: where the recipe masks personal data, the teacher sees the placeholders.

    Args:
        context: The run; ``should_stop`` ends it cleanly.
        config: Method, teacher, number of rows, budget.
        out: The file to write, ending with ``.jsonl``; list it as a source behind the recipe's own.

    Returns:
        The manifest that lies beside the file.

    Raises:
        ConfigError: The recipe, its rows or the settings are wrong, the endpoint refuses, or no row could be
            used.
        ConflictError: The output is something else's, or another process works on it.
        ResourceError: The endpoint does not answer.
    """
    from tunery.synthesise.output import output_files
    from tunery.synthesise.synthesise import Material, make_synthetic

    output_files(out)  # a wrong name is known before the dataset version is built
    _check_not_a_source(context, out)
    version = make_dataset(context)
    data = context.recipe.data
    warn_of_sending(context, config.teacher)
    material = Material(
        version=version,
        train=answers_to_reach(split_of(context, version, "train")),
        held_out=[*split_of(context, version, "validation"), *split_of(context, version, "test")],
        task=config.task or context.recipe.description or data.system_prompt,
        group_threshold=data.clean.group_threshold,
    )
    name = f"synthesise-{sha256_text(os.path.abspath(out))[:16]}"
    with exclusive(context.workspace.root, name):
        return make_synthetic(
            material,
            config,
            out,
            now=context.workspace.clock.now,
            progress=context.progress,
            should_stop=context.should_stop,
        )


def warn_of_sending(context: RunContext, teacher: TeacherConfig) -> None:
    """Say what leaves this machine unmasked, or in the clear."""
    if not context.recipe.data.clean.mask_pii:
        context.progress.event(
            f"data.clean.mask_pii is off: training rows go to {teacher.host} unmasked", level="warn"
        )
    if teacher.is_open_to_listeners:
        context.progress.event(
            f"{teacher.base_url} is not https: key and rows cross the network in the clear", level="warn"
        )


def _check_not_a_source(context: RunContext, out: Path) -> None:
    """Refuse to write over rows that a person wrote; a file of ours may be listed and still grow."""
    listed = {os.path.abspath(context.base_dir / s.path): s.path for s in context.recipe.data.sources}
    source = listed.get(os.path.abspath(out))
    if source is not None and not out.exists():
        raise ConfigError(
            f"the recipe lists {source} as a source already, and it is not there yet",
            hint="take it out of the recipe until it is written",
        )
