"""A disk that fills: 48 times, at other moments, under data, train, evaluate, run, score and serve.

    python benchmarks/full_disk.py BASE_FOLDER [--cases 48] [--seed 1]

Needs root, for the home lies on a tmpfs of its own. BASE_FOLDER is a small Hugging Face folder
(`tests/tiny/build.py` makes one). Half of the cases give the disk fewer bytes than the command writes, so
that it is full at another write each time; in the other half everything that is free is taken after a
random time. The command must end without a traceback, and with an error in words where it could not
finish. Then the disk has room again and the same command must finish, and `tunery verify all` and `tunery
gc --dry-run` find nothing.

Prints a line a case and the counts; exits with 1 where one went wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tunery.cli.main import execute

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
train: {{epochs: 1, batch_size: 8, learning_rate: 0.05, rank: 16, threads: 1, validation_every: 1}}
evaluate: {{suites_off: not measured, max_new_tokens: 4, perplexity_limit: 2, baseline: {{few_shot: false}}}}
gate: {{rules: [{{metric: exact_match, at_least: 0.0}}]}}
"""
ROOM = 256 << 20
"""Size of the disk when it has room [bytes]."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "data": ("data", "run", "{recipe}"),
    "train": ("train", "run", "{recipe}"),
    "evaluate": ("evaluate", "run", "{recipe}", "--model", "base"),
    "run": ("run", "{recipe}"),
    "score": ("data", "score", "{recipe}"),
    "serve": (),
}


class Ended(NamedTuple):
    """How a call ended."""

    code: int
    said: str


class Disk:
    """A tmpfs that can be made small and large."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self._mount(f"size={ROOM}")

    def _mount(self, options: str, *more: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, *more, "tmpfs", str(self.place)], check=True)

    def resize(self, size: int) -> None:
        """Give the disk so many bytes in all."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.place)], check=True)

    @property
    def used(self) -> int:
        """Bytes in use."""
        stat = os.statvfs(self.place)
        return (stat.f_blocks - stat.f_bfree) * stat.f_frsize

    def fill(self, left: int) -> None:
        """Take all but so many bytes."""
        stat = os.statvfs(self.place)
        take = stat.f_bavail * stat.f_frsize - left
        with (self.place / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            os.posix_fallocate(filler.fileno(), 0, max(take, 1))

    def free(self) -> None:
        """Give all of it back."""
        (self.place / "filler").unlink(missing_ok=True)
        self.resize(ROOM)

    def close(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "-l", str(self.place)], check=False)


class Forked:
    """A command in a child of this process, which has everything imported already."""

    def __init__(self, home: Path, arguments: Sequence[str], log: Path) -> None:
        self.log = log
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(out, 1)
                os.dup2(out, 2)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                code = execute(["--home", str(home), *arguments])
                sys.stdout.flush()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)

    def wait(self, limit_s: float = 300.0) -> Ended:
        """Return how it ended."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                said = self.log.read_text(encoding="utf-8", errors="replace")
                return Ended(os.waitstatus_to_exitcode(status), said)
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return Ended(-9, f"did not end in {limit_s} s")


class Case(NamedTuple):
    """One filling."""

    command: str
    how: str
    """``small`` or ``filled``."""
    share: float
    """Of what the command writes, or of the time that it takes."""


def call(home: Path, folder: Path, name: str) -> Ended:
    """Run a command to its end."""
    arguments = [part.format(recipe=folder / "tiny.yaml") for part in COMMANDS[name]]
    return Forked(home, arguments, folder / "log").wait()


class Server:
    """`tunery serve` in a child."""

    def __init__(self, home: Path, folder: Path, base: Path) -> None:
        arguments = ["serve", "--port", "0", "--base", str(base), "auth=false", "run_jobs=false"]
        self.child = Forked(home, arguments, folder / "log")
        self.url = ""
        until = time.monotonic() + 120
        while time.monotonic() < until and not self.url:
            said = self.child.log.read_text(errors="replace") if self.child.log.exists() else ""
            self.url = next((w for w in said.split() if w.startswith("http://127.")), "")
            if os.waitpid(self.child.pid, os.WNOHANG)[0]:
                break
            time.sleep(0.05)

    def ask(self, model: str) -> tuple[int, str]:
        """Put one question."""
        messages = [{"role": "user", "content": "when will my card arrive"}]
        body = {"model": model, "messages": messages, "max_tokens": 4}
        request = urllib.request.Request(
            f"{self.url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def end(self) -> Ended:
        """Stop it."""
        os.kill(self.child.pid, signal.SIGINT)
        return self.child.wait(60)


def undisturbed(disk: Disk, folder: Path, base: Path) -> dict[str, tuple[int, float]]:
    """Return what each command writes at its peak and how long it takes, on a fresh home."""
    found = {}
    for name in COMMANDS:
        if name == "serve":
            continue
        home = disk.place / f"home-{name}"
        before, started = disk.used, time.monotonic()
        ended = call(home, folder, name)
        assert ended.code == 0, ended.said
        found[name] = (disk.used - before, time.monotonic() - started)
        subprocess.run(["rm", "-rf", str(home)], check=True)
    return found


def one(case: Case, disk: Disk, folder: Path, base: Path, needs: dict[str, tuple[int, float]]) -> list[str]:
    """Fill the disk once; return what went wrong."""
    home = disk.place / "home"
    if case.command == "serve":
        return serve(case, disk, folder, base)
    wrote, took = needs[case.command]
    arguments = [part.format(recipe=folder / "tiny.yaml") for part in COMMANDS[case.command]]
    if case.how == "small":
        disk.resize(max(disk.used + int(wrote * case.share), 1 << 16))
        ended = Forked(home, arguments, folder / "log").wait()
    else:
        child = Forked(home, arguments, folder / "log")
        time.sleep(took * case.share)
        disk.fill(int(case.share * 40_000))
        ended = child.wait()
    wrong = faults(ended)
    disk.free()
    again = call(home, folder, case.command)
    if again.code != 0:
        wrong.append(f"does not finish with room: {again.code}: {again.said[-300:]}")
    return wrong + after(home, folder)


def serve(case: Case, disk: Disk, folder: Path, base: Path) -> list[str]:
    """Fill the disk under a server; it must answer or refuse in words, and answer once there is room."""
    home = disk.place / "home"
    made = call(home, folder, "run")
    assert made.code == 0, made.said
    server, wrong = Server(home, folder, base), []
    try:
        statuses = [server.ask("tiny")[0]]
        disk.fill(int(case.share * 40_000))
        for _ in range(5):
            status, said = server.ask("tiny")
            statuses.append(status)
            if status != 200 and (status == 500 or not any(w in said for w in ("disk", "kept", "record"))):
                wrong.append(f"answered {status}: {said[:200]}")
        disk.free()
        time.sleep(1)
        status, said = server.ask("tiny")
        if status != 200:
            wrong.append(f"with room: {status}: {said[:200]}")
    finally:
        disk.free()
        ended = server.end()
    if "Traceback" in ended.said:
        wrong.append("traceback")
    return wrong + after(home, folder)


def faults(ended: Ended) -> list[str]:
    """Return what is wrong with the end of a command on a full disk."""
    if "Traceback" in ended.said:
        return ["traceback: " + ended.said[-1500:]]
    if ended.code not in (0, 6):
        return [f"exit code {ended.code}: {ended.said[-300:]}"]
    if ended.code == 6 and "full" not in ended.said:
        return [f"not told that the disk is full: {ended.said[-300:]}"]
    return []


def after(home: Path, folder: Path) -> list[str]:
    """Look at what is stored once there was room again."""
    wrong = []
    checked = Forked(home, ["verify", "all"], folder / "log").wait()
    if checked.code != 0:
        wrong.append(f"verify: {checked.said[-300:]}")
    left = Forked(home, ["gc", "--dry-run", "--json"], folder / "log").wait()
    said = left.said[left.said.find("{") :]
    if left.code != 0 or json.loads(said)["left_over"]:
        wrong.append(f"left over: {left.said[-300:]}")
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the disk again and again and count what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("base", type=Path)
    parser.add_argument("--cases", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base = options.base.resolve()
        with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(("text", "category"))
            for i, (label, texts) in itertools.product(range(12), QUESTIONS.items()):
                writer.writerow((f"{texts[i % 2]} {i}", label))
        (folder / "tiny.yaml").write_text(RECIPE.format(base=base), encoding="utf-8")
        disk = Disk(folder / "disk")
        try:
            import torch
            import transformers

            from tunery.pipeline import loop
            from tunery.train import training

            _ = (torch, transformers.Trainer, loop, training)  # imported once, for all children
            needs = undisturbed(disk, folder, base)
            for name, (wrote, took) in needs.items():
                print(f"{name}: writes {wrote:,} bytes in {took:.1f} s", flush=True)
            commands = itertools.cycle(["run", "train", "data", "run", "evaluate", "train", "score", "serve"])
            for number, command in zip(range(options.cases), commands, strict=False):
                case = Case(command, "small" if number // 8 % 2 == 0 else "filled", rng.random())
                disk.free()
                subprocess.run(["rm", "-rf", str(disk.place / "home")], check=True)
                wrong = one(case, disk, folder, base, needs)
                counts["wrong" if wrong else "right"] += 1
                counts["tracebacks"] += any("traceback" in w.lower() for w in wrong)
                what = f"{number + 1:>2} {case.command:<9} {case.how:<7} {case.share:.2f}"
                print(f"{what}  {'; '.join(wrong) or 'ok'}", flush=True)
        finally:
            disk.close()
    print(f"{options.cases} fillings: {counts['tracebacks']} tracebacks, {counts['wrong']} went wrong")
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
