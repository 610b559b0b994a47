"""Curation of a million rows: time, memory, growth; beside it datatrove and a pandas script on the same rows.

    python benchmarks/curate_million.py [--rows 100000 1000000 3000000] [--peer-rows 100000] [--engine local]

Rows of about 100 characters are made from BANKING77's by word edits. Each measurement is a process of its
own: seconds from start to end, and the largest sum of resident memory over the process and its workers. Ours
reads a CSV, normalises, finds exact and near-duplicates, masks personal data by patterns, checks, splits and
stores a version. The peers do what they have of that: datatrove reads, masks and runs its four MinHash
stages; the script uses pandas, regular expressions and datasketch. Both are given the same rows, and two
workers where they can use them.

Prints the exponent of growth (1.0 is linear) and the ratio to each peer at the peers' number of rows.

Needs the peers: pip install -c constraints.txt -e ".[bench]"
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "recipes" / "data" / "banking77-train.csv"
LENGTH = 100
MIB = 2**20


class Measured(NamedTuple):
    """One process."""

    seconds: float
    memory_mib: float
    figures: dict[str, Any]


def write_rows(path: Path, rows: int, seed: int = 0) -> None:
    """Write rows of about a hundred characters: real ones with up to six words changed, added or gone."""
    with DATA.open(encoding="utf-8", newline="") as stream:
        real = [(row["text"].split(), row["category"]) for row in csv.DictReader(stream)]
    vocabulary = sorted({word for words, _ in real for word in words})
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "category"])
        for _ in range(rows):
            chosen, category = draw.choice(real)
            words = list(chosen)
            for _ in range(draw.randint(0, 6)):
                place, kind = draw.randrange(len(words)), draw.random()
                if kind < 0.4:
                    words[place] = draw.choice(vocabulary)
                elif kind < 0.7:
                    words.insert(place, draw.choice(vocabulary))
                elif len(words) > 3:
                    del words[place]
            while sum(map(len, words)) + len(words) < LENGTH:
                words.append(draw.choice(vocabulary))
            writer.writerow([" ".join(words), category])


def measure(*arguments: str) -> Measured:
    """Run this file with ``arguments`` and watch it and its children."""
    started = time.perf_counter()
    process = psutil.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
    most = 0
    while process.poll() is None:
        most = max(most, _resident(process))
        time.sleep(0.1)
    seconds = time.perf_counter() - started
    output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed with {process.returncode}")
    return Measured(seconds, most / MIB, json.loads(output.strip().splitlines()[-1]))


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for one in [process, *process.children(recursive=True)]:
            try:
                total += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        pass
    return total


def ours(path: Path, engine: str) -> dict[str, Any]:
    """Build a dataset version as a recipe would."""
    from tunery.core.config import parse_settings
    from tunery.data.build import build_dataset
    from tunery.data.config import DataConfig
    from tunery.store.workspace import Workspace

    settings = {
        "sources": [{"path": path.name, "columns": {"input": "text", "output": "category"}}],
        "engine": engine,
    }
    with tempfile.TemporaryDirectory() as home:
        workspace = Workspace.open(Path(home))
        config = parse_settings(DataConfig, settings, where="data")
        version = build_dataset(config, workspace, name="million", base_dir=path.parent)
        workspace.close()
    return {
        "rows": version.rows_read,
        "dropped": dict(version.dropped),
        "splits": dict(version.splits),
        "content": version.content_sha256[:16],
    }


def pandas_script(path: Path) -> dict[str, Any]:
    """Do what a careful person writes in an afternoon."""
    import unicodedata

    import pandas
    from datasketch import MinHash, MinHashLSH

    patterns = [
        re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"),
        re.compile(r"(?:\+?\d[\d ()-]{7,}\d)"),
        re.compile(r"https?://\S+"),
        re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b"),
    ]
    frame = pandas.read_csv(path)
    read = len(frame)
    frame["text"] = frame["text"].map(lambda t: unicodedata.normalize("NFC", t).strip())
    for pattern in patterns:
        frame["text"] = frame["text"].str.replace(pattern, "<PII>", regex=True)
    frame["print"] = frame["text"].str.lower().str.replace(r"\W+", " ", regex=True)
    frame = frame.drop_duplicates(["print", "category"])
    lsh = MinHashLSH(threshold=0.8, num_perm=128)
    keep = []
    for i, text in enumerate(frame["print"]):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([text[j : j + 4].encode() for j in range(max(1, len(text) - 3))])
        keep.append(not lsh.query(sketch))
        if keep[-1]:
            lsh.insert(i, sketch)
    frame = frame[keep].sample(frac=1, random_state=0)
    tenth = len(frame) // 10
    with tempfile.TemporaryDirectory() as folder:
        for name, part in (
            ("test", frame[:tenth]),
            ("validation", frame[tenth : 2 * tenth]),
            ("train", frame[2 * tenth :]),
        ):
            part.to_parquet(Path(folder) / f"{name}.parquet")
    return {"rows": read, "kept": len(frame)}


def datatrove(path: Path) -> dict[str, Any]:
    """Run the stages that its own examples run: read, mask, sign, bucket, cluster, filter."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
    )
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.pipeline.readers import JsonlReader, ParquetReader
    from datatrove.pipeline.writers import ParquetWriter
    from datatrove.utils.hashing import HashConfig

    tasks, buckets = 2, 14
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        parts = here / "parts"
        parts.mkdir()
        with path.open(encoding="utf-8", newline="") as stream:
            lines = [json.dumps(row) for row in csv.DictReader(stream)]
        for i in range(tasks):
            (parts / f"{i}.jsonl").write_text("\n".join(lines[i::tasks]), encoding="utf-8")
        hashing = HashConfig(hash_fc="sha1")
        config = MinhashConfig(n_grams=4, num_buckets=buckets, hashes_per_bucket=8, hash_config=hashing)

        def run(number: int, pipeline: list[Any], count: int) -> None:
            logs = str(here / "logs" / str(number))
            LocalPipelineExecutor(pipeline=pipeline, tasks=count, workers=2, logging_dir=logs).run()

        clean, signs, found, gone, kept = (str(here / n) for n in ("clean", "signs", "found", "gone", "kept"))
        run(0, [JsonlReader(str(parts), text_key="text"), PIIFormatter(), ParquetWriter(clean)], tasks)
        run(1, [ParquetReader(clean), MinhashDedupSignature(output_folder=signs, config=config)], tasks)
        run(2, [MinhashDedupBuckets(input_folder=signs, output_folder=found, config=config)], buckets)
        run(3, [MinhashDedupCluster(input_folder=found, output_folder=gone, config=config)], 1)
        run(4, [ParquetReader(clean), MinhashDedupFilter(input_folder=gone), ParquetWriter(kept)], tasks)
        import pyarrow.parquet as pq

        rows = sum(pq.read_metadata(p).num_rows for p in Path(kept).glob("*.parquet"))
    return {"rows": len(lines), "kept": rows}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--peer-rows", type=int, default=100_000, help="0 leaves the peers out [rows]")
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--worker", nargs=2, metavar=("WHO", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        who, path = options.worker[0], Path(options.worker[1])
        figures = (
            ours(path, options.engine)
            if who == "ours"
            else {"pandas": pandas_script, "datatrove": datatrove}[who](path)
        )
        print(json.dumps(figures))
        return
    with tempfile.TemporaryDirectory() as folder:
        seconds: dict[int, float] = {}
        print(f"{'rows':>10} {'who':<22} {'seconds':>8} {'rows/s':>9} {'MiB':>6}  result")
        for rows in sorted({*options.rows, options.peer_rows} - {0}):
            path = Path(folder) / f"{rows}.csv"
            write_rows(path, rows)
            everyone = ["ours", *(["pandas", "datatrove"] if rows == options.peer_rows else [])]
            at_once: dict[str, float] = {}
            for who in everyone:
                found = measure("--worker", who, str(path), "--engine", options.engine)
                at_once[who] = found.seconds
                print(
                    f"{rows:>10,} {who:<22} {found.seconds:>8.1f} {rows / found.seconds:>9,.0f} "
                    f"{found.memory_mib:>6.0f}  {json.dumps(found.figures)}",
                    flush=True,
                )
            seconds[rows] = at_once["ours"]
            for who in everyone[1:]:
                print(f"{'':>10} {who} takes {at_once[who] / at_once['ours']:.1f} times as long")
            path.unlink()
        if len(seconds) > 1:
            low, high = min(seconds), max(seconds)
            exponent = math.log(seconds[high] / seconds[low]) / math.log(high / low)
            print(f"time grows with rows to the power of {exponent:.2f} from {low:,} to {high:,} rows")


if __name__ == "__main__":
    main()
