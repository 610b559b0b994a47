"""Damage: every stored file of a version flipped, truncated, zeroed, removed and swapped, then read.

    python benchmarks/damage.py BASE_FOLDER [--seed 1] [--only adapters]

BASE_FOLDER is a small Hugging Face folder (`tests/tiny/build.py` makes one). A version is made by `tunery
run`, a second one by another seed, and a training is stopped halfway for its checkpoints. Then each file
of adapter, dataset version, evaluation, base and checkpoint is damaged in turn, on a fresh copy, and what
reads it is called: `run`, `train run`, `evaluate run`, `data inspect`, `data score`, `registry export`,
`verify`, and a request to a server.

Each call ends as one of: refused (an error in words), repaired (made again, and told), told (another
output, and a word of what changed), same (the output without damage), silent (another output and no word
of it), traceback. Prints the counts; exits with 1 where one is silent or ends in a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from fastapi.testclient import TestClient

from tunery.api.app import create_app
from tunery.api.config import ServerSettings
from tunery.api.server import engine_opener
from tunery.cli import progress
from tunery.cli.main import execute
from tunery.core.errors import TuneryError
from tunery.core.progress import Silent
from tunery.model.bases import resolve_base
from tunery.pipeline.gateway.bases import BasePool
from tunery.store.workspace import Workspace

QUESTIONS = {
    "card arrival": ("when will my card arrive", "is my card in the post"),
    "exchange rate": ("what is the exchange rate", "which rate do you use"),
    "top up failed": ("why did my top up fail", "topping up does not work"),
}
RECIPE = """\
name: tiny
goal: {{metric: exact_match, target: 0.0, min_gain_over_prompting: 0.0}}
base: {base}
data:
  sources: [{{path: rows.csv, columns: {{input: text, output: category}}}}]
  system_prompt: Name the intent.
  clean: {{near_duplicates: group, group_threshold: 1.0, near_threshold: 1.0}}
  split: {{test: 6, validation: 6}}
train: {{epochs: 1, batch_size: 8, learning_rate: 0.05, rank: 4, threads: 1, validation_every: 1}}
evaluate: {{suites_off: not measured, max_new_tokens: 4, perplexity_limit: 2, baseline: {{few_shot: false}}}}
gate: {{rules: [{{metric: exact_match, at_least: 0.0}}]}}
"""
WORDS = ("made again", "trained again", "converted again", "is left out", "begins anew")
"""What tells of a repair."""


class Called(NamedTuple):
    """What a call left."""

    code: int
    out: str
    err: str


class Stored(NamedTuple):
    """A recipe with its home and its base in one folder, so that a copy of it is a copy of everything."""

    root: Path

    @property
    def home(self) -> Path:
        """State of Tunery."""
        return self.root / "home"

    @property
    def recipe(self) -> Path:
        """The recipe."""
        return self.root / "tiny.yaml"

    def call(self, *arguments: object) -> Called:
        """Call the command line in process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = execute(["--home", str(self.home), *map(str, arguments)])
        return Called(code, out.getvalue(), err.getvalue())


def flip(path: Path, rng: random.Random, other: Path | None) -> None:
    """Change one bit; size and time of modification stay."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def truncate(path: Path, rng: random.Random, other: Path | None) -> None:
    """Keep the first part, of random length."""
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def zero(path: Path, rng: random.Random, other: Path | None) -> None:
    """Overwrite a block with zeros."""
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content))
    block = content[start : start + 4096]
    content[start : start + 4096] = bytes(len(block)) if any(block) else b"\1" * len(block)
    path.write_bytes(content)


def remove(path: Path, rng: random.Random, other: Path | None) -> None:
    """Take it away."""
    path.unlink()


def swap(path: Path, rng: random.Random, other: Path | None) -> None:
    """Put the other version's file of that name in its place."""
    if other is not None and other.read_bytes() != path.read_bytes():
        shutil.copyfile(other, path)
    else:
        path.write_bytes(b"")


DAMAGES: tuple[Callable[[Path, random.Random, Path | None], None], ...] = (flip, truncate, zero, remove, swap)


def make(stored: Stored, base: Path) -> None:
    """Make two versions, and the checkpoints of a training that is stopped."""
    root = stored.root
    shutil.copytree(base, root / "base")
    with (root / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "category"))
        for i, (label, texts) in itertools.product(range(12), QUESTIONS.items()):
            writer.writerow((f"{texts[i % 2]} {i}", label))
    stored.recipe.write_text(RECIPE.format(base="base"), encoding="utf-8")
    for overrides in ((), ("name=other", "train.seed=5", "data.split.seed=5")):
        done = stored.call("run", stored.recipe, *overrides)
        assert done.code == 0, done.err
    interrupted(stored, 3)


def interrupted(stored: Stored, step: int) -> None:
    """Train with another seed and stop at a step."""

    class Stop(Silent):
        def event(self, message: str, *, level: Any = "info", data: Any = None) -> None:
            if data and data.get("step") == step and "train_loss" in data:
                os.kill(os.getpid(), signal.SIGINT)

    before, progress.terminal_progress = progress.terminal_progress, Stop  # type: ignore[assignment]
    try:
        done = stored.call("train", "run", stored.recipe, "train.seed=9")
    finally:
        progress.terminal_progress = before
    assert done.code == 130, done.err


def ask(stored: Stored) -> Called:
    """Serve the home and ask the version and the base one question each."""
    workspace = Workspace.open(stored.home)
    settings = ServerSettings(auth=False, run_jobs=False, base=str(stored.root / "base"))
    try:
        base = resolve_base(settings.base, stored.home / "models", progress=Silent())
        pool = BasePool(base, engine_opener(settings.engine), max_adapters=4)
        answers = []
        with TestClient(create_app(workspace, pool, settings), base_url="http://127.0.0.1") as client:
            body = {
                "model": "tiny@1",
                "messages": [{"role": "user", "content": "when will my card arrive"}],
                "max_tokens": 6,
                "temperature": 0,
                "logprobs": True,
            }
            answer = client.post("/v1/chat/completions", json=body)
            answers.append(answer)
        pool.close()
        worst = max(a.status_code for a in answers)
        said = [a.json().get("choices", a.json()) for a in answers]
        return Called(0, json.dumps(said), "") if worst == 200 else Called(worst, "", json.dumps(said))
    except Exception as error:
        words = str(error) if isinstance(error, TuneryError) else f"Traceback {error!r}"
        return Called(1, "", words)
    finally:
        workspace.close()


def exported(stored: Stored) -> Called:
    """Export the version and return what every file holds."""
    target = stored.root / "exported"
    done = stored.call("registry", "export", "tiny@1", target)
    files = {p.name: p.read_bytes().hex() for p in sorted(target.glob("*")) if p.is_file()}
    files.pop("README.md", None)  # written from the records
    return done._replace(out=json.dumps(files))


def of_run(done: Called) -> Called:
    """Keep of a run's JSON what it found, not when."""
    if done.code != 0:
        return done
    value = json.loads(done.out)
    kept = {k: value.get(k) for k in ("run", "id", "status", "model_version", "gate")}
    metrics = [
        (name, sorted((m, v.get("value")) for m, v in evaluation.get("metrics", {}).items()))
        for name, evaluation in sorted(value.get("evaluations", {}).items())
        if isinstance(evaluation, dict)
    ]
    return done._replace(out=json.dumps([kept, metrics], default=str))


def of_evaluation(done: Called) -> Called:
    """Keep an evaluation's numbers."""
    if done.code != 0:
        return done
    value = json.loads(done.out)
    found = value.get("evaluation", value)
    return done._replace(out=json.dumps([found.get("metrics"), found.get("per_class")]))


def of_score(done: Called) -> Called:
    """Return the scores themselves."""
    if done.code != 0:
        return done
    folder = Path(json.loads(done.out)["path"])
    files = folder.glob("*.parquet") if folder.is_dir() else [folder]
    return done._replace(out=json.dumps([pq.read_table(f).to_pylist() for f in files], default=str))


def of_training(done: Called, stored: Stored) -> Called:
    """Return the weights that training ended with."""
    if done.code != 0:
        return done
    weights = stored.home / "adapters" / json.loads(done.out)["id"] / "adapter_model.safetensors"
    return done._replace(out=weights.read_bytes().hex())


def of_inspection(done: Called) -> Called:
    """Keep the findings."""
    if done.code != 0:
        return done
    value = json.loads(done.out)
    return done._replace(out=json.dumps(value.get("findings"), sort_keys=True))


def readers(kind: str) -> dict[str, Callable[[Stored], Called]]:
    """Return what reads artifacts of a kind."""
    run = {"run": lambda s: of_run(s.call("run", s.recipe, "--json"))}
    verify = {"verify": lambda s: s.call("verify", "tiny@1", "--json")}
    rows = {"inspect": lambda s: of_inspection(s.call("data", "inspect", s.recipe, "--json"))}
    few = ("--model", "tiny@1", "evaluate.limit=3", "--json")
    evaluate = {
        "evaluate": lambda s: of_evaluation(
            s.call("evaluate", "run", s.recipe, "--test", s.root / "rows.csv", *few)
        )
    }
    score = {"score": lambda s: of_score(s.call("data", "score", s.recipe, "--json"))}
    return {
        "adapters": {"serve": ask, **run, **evaluate, "export": exported, **verify},
        "datasets": {**run, **rows, **score, **verify},
        "evaluations": {**run, **verify},
        "base": {"serve": ask, **run, **evaluate, **score, **verify},
        "checkpoints": {
            "train": lambda s: of_training(s.call("train", "run", s.recipe, "train.seed=9", "--json"), s)
        },
    }[kind]


class Target(NamedTuple):
    """A file to damage."""

    kind: str
    path: Path
    """Relative to the stored folder."""
    other: Path | None
    """The other version's file of that name."""


def targets(stored: Stored) -> Iterator[Target]:
    """Yield every file of the first version, its base and the checkpoints."""
    workspace = Workspace.open(stored.home)
    try:
        run, other = (workspace.runs.get(workspace.models.get(n, 1).run_id) for n in ("tiny", "other"))
        pairs = [
            ("adapters", run.adapter_id, other.adapter_id),
            ("datasets", run.dataset_version, other.dataset_version),
        ]
        pairs += [("evaluations", run.evaluations[s], other.evaluations.get(s)) for s in run.evaluations]
    finally:
        workspace.close()
    for kind, mine, theirs in pairs:
        for path in sorted((stored.home / kind / str(mine)).rglob("*")):
            if path.is_file():
                twin = stored.home / kind / str(theirs) / path.name
                yield Target(kind, path.relative_to(stored.root), twin if twin.is_file() else None)
    for path in sorted((stored.root / "base").iterdir()):
        if not path.name.startswith("."):
            yield Target("base", path.relative_to(stored.root), None)
    for path in sorted(stored.home.glob("checkpoints/*/*/*")):
        yield Target("checkpoints", path.relative_to(stored.root), None)


def judge(call: Called, undamaged: Called) -> str:
    """Say how a call ended."""
    if "Traceback" in call.err or call.code == 500:
        return "traceback"
    if call.code not in (0, 5):
        return "refused"
    if any(word in call.err for word in WORDS):
        return "repaired"
    if (call.code, call.out) == (undamaged.code, undamaged.out):
        return "same"
    if "is not what" in call.err or "changed since" in call.err:
        return "told"
    return "silent"


def main(arguments: Sequence[str] | None = None) -> int:
    """Damage everything in turn and count how reading it ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("base", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="files of one kind")
    parser.add_argument("--damages", default=",".join(d.__name__ for d in DAMAGES))
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)
    counts: dict[str, Counter[str]] = {}
    bad = []
    with tempfile.TemporaryDirectory() as temporary:
        work, whole = Stored(Path(temporary) / "work"), Path(temporary) / "whole"
        make(work, options.base.resolve())
        shutil.copytree(work.root, whole)

        def fresh() -> None:
            # At the same place each time: records name the base by its path.
            shutil.rmtree(work.root, ignore_errors=True)
            shutil.copytree(whole, work.root)

        undamaged: dict[tuple[str, str], Called] = {}
        chosen = [t for t in targets(work) if options.only in (None, t.kind)]
        for target in chosen:
            for name in options.damages.split(","):
                damage = next(d for d in DAMAGES if d.__name__ == name)
                for reader, read in readers(target.kind).items():
                    if (target.kind, reader) not in undamaged:
                        fresh()
                        undamaged[target.kind, reader] = read(work)
                        assert undamaged[target.kind, reader].code == 0, undamaged[target.kind, reader]
                    fresh()
                    damage(work.root / target.path, rng, target.other)
                    how = judge(read(work), undamaged[target.kind, reader])
                    counts.setdefault(f"{target.kind} {reader}", Counter())[how] += 1
                    if how in ("silent", "traceback"):
                        bad.append(f"{how}: {target.path} {name}, read by {reader}")
                        print(bad[-1], flush=True)
    total: Counter[str] = Counter()
    for row, found in counts.items():
        total += found
        print(f"{row:<24} {dict(found)}")
    print(f"{len(chosen)} files, {sum(total.values())} calls: {dict(total)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
