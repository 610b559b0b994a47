"""Count what one CSV row passes on its way to supervised tokens: source files, and forms that hold it.

    python scripts/row_walk.py            # of this checkout; PYTHONPATH=OTHER/src for another one

A file counts when one of its functions is called with something that holds the row's text; a form is a type
that holds it, alone or inside lists, mappings and records. Rendering and packing stand for training.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import inspect
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

MARKER = "zyxmarkerzyx"
ROWS = 12
_DEPTH = 5


def holds(value: Any, depth: int = _DEPTH) -> bool:
    """Tell whether the marker stands somewhere in a value."""
    if isinstance(value, str):
        return MARKER in value
    if isinstance(value, bytes):
        return MARKER.encode() in value
    if depth == 0 or value is None or isinstance(value, (int, float, type)):
        return False
    if isinstance(value, Mapping):
        return any(holds(v, depth - 1) for v in value.values())
    if isinstance(value, (list, tuple)):
        return any(holds(v, depth - 1) for v in value)
    if type(value).__module__.startswith("pyarrow") and hasattr(value, "to_pylist"):
        return MARKER in str(value.to_pylist())
    if dataclasses.is_dataclass(value):
        return any(holds(getattr(value, f.name, None), depth - 1) for f in dataclasses.fields(value))
    fields = getattr(type(value), "model_fields", None)
    return bool(fields) and any(holds(getattr(value, name), depth - 1) for name in fields)


class Walk:
    """Collects the files and forms that a traced call passes."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self.files: set[str] = set()
        self.forms: set[str] = set()
        self.running: set[str] = set()
        """Files that ran at all, the row in their hands or not."""

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Look at one call or return, as :func:`sys.setprofile` asks."""
        where = frame.f_code.co_filename
        if event not in ("call", "return") or not where.startswith(self._root):
            return
        if not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            return  # the body of a module or a class
        self.running.add(where)
        given = [argument] if event == "return" else list(frame.f_locals.values())
        found = [value for value in given if holds(value)]
        if found:
            self.files.add(where.removeprefix(self._root).lstrip("/"))
            self.forms |= {form for value in found for form in forms(value)}


def forms(value: Any, depth: int = _DEPTH) -> set[str]:
    """Return the names of the types that hold the marker; plain lists and tuples are not counted."""
    if not holds(value, depth):
        return set()
    inner: list[Any] = []
    if isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, (list, tuple)):
        inner = list(value)
    elif dataclasses.is_dataclass(value):
        inner = [getattr(value, f.name, None) for f in dataclasses.fields(value)]
    elif hasattr(type(value), "model_fields"):
        inner = [getattr(value, name) for name in type(value).model_fields]
    below = {name for item in inner for name in forms(item, depth - 1)} if depth else set()
    return below | ({type(value).__name__} if type(value) not in (list, tuple) else set())


def main() -> int:
    """Trace a build of a few rows, their rendering and packing; print what the marked row passed."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    import tunery

    root = Path(tunery.__file__).parent
    from tunery.core.splits import SPLITS
    from tunery.data.build import build_dataset
    from tunery.data.config import DataConfig
    from tunery.model.tokenizer import load_tokenizer
    from tunery.store.dataset_files import read_examples
    from tunery.store.workspace import Workspace
    from tunery.train.methods.sft import METHOD, SftConfig
    from tunery.train.trainer import collate

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.tiny.build import build_tiny

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["text", "label"])
            writer.writerows([f"question {i} about {MARKER if i == 3 else 'cards'}", f"class {i % 2}"]
                             for i in range(ROWS))  # fmt: skip
        tokenizer = load_tokenizer(build_tiny(folder / "base", layers=1, hidden=32))
        workspace = Workspace.open(folder / "home", database_url=f"sqlite:///{folder / 'home.db'}")
        source = {"path": "rows.csv", "columns": {"input": "text", "output": "label"}, "split": "train"}
        config = DataConfig.model_validate({"sources": [source]})
        walk = Walk(root)
        sys.setprofile(walk)
        version = build_dataset(
            config, workspace, name="walk", base_dir=folder, tokenizer=tokenizer, max_tokens=64
        )
        place = workspace.artifacts.path("datasets", version.id)
        examples = [e for split in SPLITS for e in read_examples(place, split)]
        collate(METHOD.rows(SftConfig(), tokenizer, examples, []).train)
        sys.setprofile(None)
        workspace.close()
    print(f"{len(walk.files)} files hold the row, {len(walk.running)} run meanwhile; {len(walk.forms)} forms")
    for file in sorted(walk.files):
        print(f"  {file}")
    print("forms:", ", ".join(sorted(walk.forms)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
