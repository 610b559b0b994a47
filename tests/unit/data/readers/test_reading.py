"""Files damaged at random are read or refused in words; nothing else comes out."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunery.core.errors import ConfigError
from tunery.core.progress import Silent
from tunery.data.config import ColumnsConfig, SourceConfig
from tunery.data.conversations.parse import understand
from tunery.data.readers.reading import Reading, missing_column
from tunery.data.readers.source import locate

GOOD = {
    "a.csv": b"text,category\n" + b"".join(b'"question, %d",a\n' % i for i in range(12)),
    "a.jsonl": b"".join(b'{"text": "question %d", "category": "a"}\n' % i for i in range(12)),
    "a.json": b"[" + b", ".join(b'{"text": "question %d", "category": "a"}' % i for i in range(12)) + b"]",
}
DAMAGE = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(0, 40),
        st.binary(max_size=4) | st.sampled_from([b'"', b"\n", b"{", b"]", b",", b"\\u", b"\x00", b"\xff"]),
    ),
    min_size=1,
    max_size=4,
)


class Count(NamedTuple):
    rows: int
    understood: int


def read_all(source: SourceConfig, folder: Path) -> Count:
    """Read a file to its end; rows that are dropped count as understood."""
    reading = Reading(locate(source, folder), Silent())
    understood = 0
    for rows in reading.chunks():
        understood += len([understand(row, reading.mapped, source) for row in rows])
    reading.check()
    return Count(reading.rows, understood)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.sampled_from(sorted(GOOD)), damage=DAMAGE)
def test_damaged_files_are_read_or_refused(
    tmp_path: Path, name: str, damage: list[tuple[int, int, bytes]]
) -> None:
    content = GOOD[name]
    for at, cut, put in damage:
        content = content[:at] + put + content[at + cut :]
    (tmp_path / name).write_bytes(content)
    source = SourceConfig(path=name, columns=ColumnsConfig(input="text", output="category"))
    try:
        found = read_all(source, tmp_path)
    except ConfigError as error:
        assert name in error.message  # noqa: PT017 - either outcome is right, each has its own check
        return
    assert found.rows == found.understood


@pytest.mark.parametrize("name", sorted(GOOD))
def test_the_undamaged_files_are_read_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(GOOD[name])
    source = SourceConfig(path=name, columns=ColumnsConfig(input="text", output="category"))
    assert read_all(source, tmp_path) == (12, 12)


def test_a_table_of_ten_thousand_columns_is_described_in_one_line() -> None:
    sentence = missing_column("text", [f"c{i}" for i in range(10_000)])
    assert sentence.endswith("'c19' and 9,980 more)")
