"""Which open base takes an old model's place: the largest one here that this machine bears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from tunery.core.config import Record
from tunery.core.errors import TuneryError
from tunery.core.figures import duration, size
from tunery.core.progress import Silent
from tunery.model.bases import find_base
from tunery.model.embedded import EMBEDDED_NAME
from tunery.pipeline.context import RunContext
from tunery.pipeline.recipe import load_recipe
from tunery.pipeline.rescue.recipe import Drafted
from tunery.pipeline.stages.plan import plan_recipe
from tunery.store.workspace import Workspace, root_of

_LONGEST_S = 8 * 3600.0
"""A run that would take longer is no choice to start with [s]."""


class Chosen(Record):
    """A base, and why it is the one."""

    base: str
    because: str


def chosen_base(home: Path | None, named: str | None, drafted: Callable[[str], Drafted]) -> Chosen:
    """Return the base that is named, else the largest here that this machine bears by the forecast.

    Args:
        home: The workspace, as typed.
        named: What the user wants: as in a recipe, a folder from where they stand, or one of the home's
            ``models``.
        drafted: Writes the recipe with a base, which is then forecast.

    Raises:
        NotFoundError: There is no base of that name.
        TuneryError: The recipe cannot be written.
    """
    if named is not None:
        base = _as_named(root_of(home) / "models", named)
        return Chosen(base=base, because=f"base {base}: as requested")
    with closing(Workspace.open(home)) as workspace:
        passed_over: list[str] = []
        for base in _here(workspace):
            found = drafted(base)
            try:
                context = RunContext(load_recipe(found.path, ()), workspace, found.path.parent, Silent())
                forecast = plan_recipe(context)
            except TuneryError as error:
                passed_over.append(f"{base} cannot be planned ({error.message})")
                continue
            if forecast.fits and forecast.total_s <= _LONGEST_S:
                needs = f"{duration(forecast.total_s)} and {size(forecast.memory_bytes)} of memory"
                why = f"base {base}: by the forecast {needs} on this machine"
                return Chosen(base=base, because="; ".join([why, *passed_over]))
            passed_over.append(
                f"{base} would take {duration(forecast.total_s)}, {size(forecast.memory_bytes)}"
            )
    why = f"base {EMBEDDED_NAME}: it ships with Tunery"
    return Chosen(base=EMBEDDED_NAME, because="; ".join([why, *passed_over]))


def _as_named(models: Path, named: str) -> str:
    """Return a base as a recipe names it, which lies in another folder than the one its user stands in."""
    given = Path(named).expanduser()
    for folder in (given, models / named):
        if named != EMBEDDED_NAME and folder.is_dir():
            return str(folder.resolve())
    if named != EMBEDDED_NAME and "@" not in named:
        find_base(named, models)  # refuses it; what names its revision is brought when it is needed
    return named


def _here(workspace: Workspace) -> Iterator[str]:
    """Yield the bases in the home, the largest first, without the one that ships."""
    folders = [f for f in (workspace.root / "models").glob("*") if (f / "config.json").is_file()]
    sizes = {folder: sum(f.stat().st_size for f in folder.glob("*.safetensors")) for folder in folders}
    for folder in sorted(folders, key=lambda f: -sizes[f]):
        if folder.name != EMBEDDED_NAME:
            yield str(folder)
