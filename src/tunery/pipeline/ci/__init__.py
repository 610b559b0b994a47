"""The jobs that run the gate on a pull request: blocked by its exit code, its summary posted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from tunery.core.errors import ConfigError, ConflictError, ResourceError
from tunery.pipeline.recipe import load_recipe
from tunery.store.whole_file import write_whole

Provider = Literal["github", "gitlab"]
_FILES: Mapping[Provider, str] = {
    "github": ".github/workflows/tunery-gate.yml",
    "gitlab": ".gitlab/tunery-gate.yml",
}
_GITLAB_ROOT = ".gitlab-ci.yml"
_INCLUDE = f'include:\n  - local: "{_FILES["gitlab"]}"\n'


def write_job(folder: Path, provider: Provider, recipe: str, *, replace: bool) -> list[Path]:
    """Write the file of a job that runs a recipe's gate; return what was written.

    A GitLab project without a ``.gitlab-ci.yml`` gets one that includes the job; one that is there is left
    alone, whoever calls says what to add to it.

    Args:
        folder: The repository.
        provider: Whose pipelines.
        recipe: Path of the recipe within the repository; it is read, so that a wrong one is told here.
        replace: Whether a file of the job that is there is written anew.

    Raises:
        ConfigError: The recipe is wrong, or lies outside of the repository.
        ConflictError: The file is there already.
        ResourceError: It cannot be written.
    """
    # Both providers would put a value in the place of what begins with a dollar sign.
    if Path(recipe).is_absolute() or ".." in Path(recipe).parts or "$" in recipe:
        raise ConfigError(f"--recipe {recipe} is no path within the repository", param="recipe")
    load_recipe(folder / recipe)
    target = folder / _FILES[provider]
    if target.exists() and not replace:
        raise ConflictError(
            f"{target} is there already and is not overwritten", hint="tunery ci init … --force"
        )
    texts = {target: job_text(provider, recipe)}
    root = folder / _GITLAB_ROOT
    if provider == "gitlab" and not root.exists():
        texts[root] = _INCLUDE
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with write_whole(path) as stream:
                stream.write(text)
        except OSError as error:
            raise ResourceError(f"{path} cannot be written: {error.strerror}") from None
    return list(texts)


def to_include(provider: Provider, written: list[Path], folder: Path) -> str | None:
    """Return what a person must add to a file of theirs for the job to run, None for nothing."""
    if provider == "github" or folder / _GITLAB_ROOT in written:
        return None
    return f"add to {_GITLAB_ROOT}:\n{_INCLUDE}"


def job_text(provider: Provider, recipe: str) -> str:
    """Return the job's file."""
    text = resources.files("tunery.pipeline.ci").joinpath(f"{provider}.yml").read_text(encoding="utf-8")
    # A comment ends with its line, and JSON's quotes are YAML's.
    written = {
        "{recipe}": " ".join(recipe.split()),
        "{recipe_quoted}": json.dumps(recipe, ensure_ascii=False),
        "{version}": version("tunery"),
    }
    for name, value in written.items():
        text = text.replace(name, value)
    return text
