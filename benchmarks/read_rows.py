"""What reading a row costs, by format: bytes to raw rows, and raw rows to conversations.

    python benchmarks/read_rows.py [--rows 200000]

Each file is read to its end once for the first figure; the second is of 100,000 rows held in memory. The peer
is ``json.loads`` (or ``csv.reader``) over the same file in the same run, which checks and explains nothing.
"""

from __future__ import annotations

import argparse
import collections
import csv
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tunery.data.config import ColumnsConfig, SourceConfig
from tunery.data.conversations.parse import parse_row
from tunery.data.conversations.shapes import map_columns, wanted_columns
from tunery.data.readers.reading import iterate
from tunery.data.readers.source import locate

TEXT = "I have been waiting for my new card for {} days and it has not come yet, what should I do now?"


def write(folder: Path, rows: int) -> None:
    """Write the same rows in every format, and chat rows of three turns."""
    plain = [{"input": TEXT.format(i), "output": "card_arrival"} for i in range(rows)]
    with (folder / "rows.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["input", "output"])
        writer.writerows(r.values() for r in plain)
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in plain))
    (folder / "rows.json").write_text(json.dumps(plain))
    pq.write_table(pa.Table.from_pylist(plain), folder / "rows.parquet")
    with (folder / "chat.jsonl").open("w") as stream:
        for row in plain:
            turns = [
                {"role": "system", "content": "You are kind."},
                {"role": "user", "content": row["input"]},
                {"role": "assistant", "content": "Please wait some days more."},
            ]
            stream.write(json.dumps({"messages": turns}) + "\n")


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def bare(path: Path) -> Iterator[object]:
    """Read a text file with the standard library alone."""
    with path.open(encoding="utf-8") as stream:
        yield from csv.reader(stream) if path.suffix == ".csv" else map(json.loads, stream)


def main() -> None:
    """Print microseconds a row for each format."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, rows)
        for file in ("rows.csv", "rows.jsonl", "rows.json", "rows.parquet", "chat.jsonl"):
            settings = SourceConfig(path=file, columns=ColumnsConfig())
            source = locate(settings, folder)
            wanted = wanted_columns(settings.columns)
            read = seconds(lambda: collections.deque(iterate(source, wanted), maxlen=0)) / rows * 1e6  # noqa: B023
            held = list(itertools.islice(iterate(source, wanted), 5000))
            mapped = map_columns(settings, held[0].values)
            again = itertools.chain.from_iterable(itertools.repeat(held, 20))
            parsed = (parse_row(row, mapped, settings) for row in again)
            parse = seconds(lambda: collections.deque(parsed, maxlen=0)) / (20 * len(held)) * 1e6  # noqa: B023
            line = f"{file:13} read {read:5.2f} us/row   parse {parse:5.2f} us/row"
            if file.endswith((".csv", ".jsonl")):
                peer = seconds(lambda: collections.deque(bare(folder / file), maxlen=0)) / rows * 1e6  # noqa: B023
                line += f"   standard library alone {peer:5.2f} us/row, ratio {read / peer:4.2f}"
            print(line)


if __name__ == "__main__":
    main()
