"""The journal: what was appended is there after any death, in order, once, and gone when it is to go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunery.store import journal as journals
from tunery.store.journal import Entry, Journal, abandoned, erase, find_anywhere

SEGMENT = 4096


def entries(*numbers: int, size: int = 50) -> list[Entry]:
    return [Entry("request", f"chatcmpl-{n}", f'{{"n":{n},"text":"{"x" * size}"}}') for n in numbers]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(root: Path) -> Iterator[Journal]:
    opened = Journal.create(root, "journal-1", about="db", segment_bytes=SEGMENT)
    yield opened
    opened.close()


def drained(journal: Journal, limit: int = 7) -> list[Entry]:
    found: list[Entry] = []
    while (batch := journal.read(limit)).entries:
        found += batch.entries
        journal.advance(batch)
    return found


def test_entries_come_back_in_order_over_many_segments_which_are_freed(journal: Journal) -> None:
    written = entries(*range(300))
    for begin in range(0, 300, 10):
        journal.append(written[begin : begin + 10], sync=begin % 20 == 0)
    assert len(list(journal.folder.glob("*.log"))) > 5
    assert journal.waiting == 300
    assert drained(journal) == written
    assert journal.waiting == 0
    assert journal.reached == journal.end
    assert len(list(journal.folder.glob("*.log"))) == 2  # the one being written, and the room behind it


def test_a_reader_leaves_an_entry_alone_while_it_is_being_appended(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = entries(*range(100))
    write, segments = journals._write_at, journals._segments
    rest: list[tuple[int, bytes, int]] = []

    def write_half(descriptor: int, data: bytes, offset: int) -> None:
        half = len(data) // 2
        write(descriptor, data[:half], offset)
        rest.append((descriptor, data[half:], offset + half))

    monkeypatch.setattr(journals, "_write_at", write_half)
    for number, entry in enumerate(written):

        def append_meanwhile(folder: Path, entry: Entry = entry) -> list[Path]:
            monkeypatch.setattr(journals, "_segments", segments)
            journal.append([entry], sync=False)  # begins once the reader has seen how far it may look
            return segments(folder)

        monkeypatch.setattr(journals, "_segments", append_meanwhile)
        batch = journal.read(1000)
        assert (batch.entries, batch.damaged) == (written[:number], 0)
        write(*rest.pop())
    assert len(list(journal.folder.glob("*.log"))) > 2  # the first of a segment was among them
    assert drained(journal) == written


def test_an_entry_larger_than_a_segment_has_one_of_its_own(journal: Journal) -> None:
    written = [*entries(1), *entries(2, size=3 * SEGMENT), *entries(3)]
    for entry in written:
        journal.append([entry], sync=False)
    assert drained(journal) == written


def test_only_its_owner_reads_what_is_in_it(journal: Journal) -> None:
    journal.append(entries(1), sync=False)
    assert {oct(p.stat().st_mode & 0o777) for p in journal.folder.iterdir()} == {"0o600"}
    assert oct(journal.folder.stat().st_mode & 0o777) == "0o700"


def test_an_entry_is_found_until_the_database_has_it(journal: Journal, root: Path) -> None:
    journal.append(entries(*range(50)), sync=False)
    for find in (journal.find, lambda kind, id: find_anywhere(root, kind, id)):
        assert find("request", "chatcmpl-33") == entries(33)[0]
        assert find("request", "chatcmpl-3") == entries(3)[0]
        assert find("feedback", "chatcmpl-33") is None
        assert find("request", "chatcmpl-99") is None
    drained(journal)
    assert journal.find("request", "chatcmpl-33") is None


def test_a_living_journal_is_left_alone_and_a_dead_one_adopted_once(root: Path, journal: Journal) -> None:
    journal.append(entries(1), sync=False)
    assert list(abandoned(root, about="db")) == []
    dead = Journal.create(root, "journal-0", about="db", segment_bytes=SEGMENT)
    dead.append(entries(7, 8), sync=False)
    dead.close()
    assert list(abandoned(root, about="another database")) == []
    assert [f.name for f in journals.foreign(root, about="another database")] == ["journal-0", "journal-1"]
    for adopted in abandoned(root, about="db"):
        assert drained(adopted) == entries(7, 8)
    assert [f.name for f in root.iterdir() if f.is_dir()] == ["journal-1"]


def test_a_torn_tail_is_cut_and_counted(root: Path) -> None:
    dead = Journal.create(root, "journal-0", about="db", segment_bytes=SEGMENT)
    dead.append(entries(1, 2), sync=False)
    end = dead.end
    dead.close()
    segment = dead.folder / f"{end.segment:08d}.log"
    with segment.open("r+b") as stream:
        stream.seek(end.offset)
        stream.write(b'0123abcd request chatcmpl-3 {"n":')
    [adopted] = abandoned(root, about="db")
    batch = Journal(adopted.folder, os.open(os.devnull, os.O_RDONLY)).read(10)
    assert (batch.entries, batch.damaged) == (entries(1, 2), 1)


@pytest.mark.parametrize("byte", range(0, 60, 7))
def test_a_flipped_byte_costs_its_own_line_only(root: Path, byte: int) -> None:
    dead = Journal.create(root, "journal-0", about="db", segment_bytes=SEGMENT)
    dead.append(entries(1, 2, 3), sync=False)
    line = len(journals._line(entries(1)[0]))
    segment = dead.folder / "00000001.log"
    data = bytearray(segment.read_bytes())
    data[line + byte] ^= 1
    segment.write_bytes(data)
    batch = dead.read(10)
    assert [e.id for e in batch.entries] == ["chatcmpl-1", "chatcmpl-3"]
    assert batch.damaged == 1


def test_a_killed_writer_loses_nothing_that_append_returned_for(root: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tunery.store.journal import Entry, Journal\n"
        "j = Journal.create(Path(sys.argv[1]), 'journal-9', about='db', segment_bytes=8192)\n"
        "n = 0\n"
        "while True:\n"
        "    j.append([Entry('request', f'id-{m}', '{}') for m in (n, n + 1)], sync=False)\n"
        "    n += 2; print(n, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        said = 0
        while said < 500:
            said = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        said = max([said, *(int(line) for line in writer.stdout if line.endswith(b"\n"))])
    [found] = [drained(dead) for dead in abandoned(root, about="db")]
    assert [e.id for e in found[:said]] == [f"id-{n}" for n in range(said)]
    assert len({e.id for e in found}) == len(found)


def test_a_restart_goes_on_behind_what_the_database_has(root: Path) -> None:
    first = Journal.create(root, "journal-0", about="db", segment_bytes=SEGMENT)
    first.append(entries(*range(20)), sync=False)
    first.advance(first.read(12))
    first.close()
    assert [[e.id for e in drained(j)] for j in abandoned(root, about="db")] == [
        [f"chatcmpl-{n}" for n in range(12, 20)]
    ]


def test_erased_entries_are_off_the_disk_and_changed_ones_changed(journal: Journal, root: Path) -> None:
    written = entries(*range(100))
    journal.append(written, sync=False)
    journal.advance(journal.read(10))  # what the database has already is erased all the same

    def change(entry: Entry) -> Entry | None:
        if entry.id == "chatcmpl-5":
            return None
        return entry._replace(text="{}") if entry.id == "chatcmpl-50" else entry

    assert erase(root, change) == 2
    on_disk = b"".join(p.read_bytes() for p in journal.folder.glob("*.log"))
    assert b"chatcmpl-5 " not in on_disk
    assert b'"n":50,' not in on_disk
    left = drained(journal)
    assert [e.id for e in left] == [f"chatcmpl-{n}" for n in range(10, 100)]
    assert left[40] == Entry("request", "chatcmpl-50", "{}")
    journal.append(entries(100), sync=False)
    assert drained(journal) == entries(100)


def test_a_journal_that_is_full_says_so_before_it_refuses(root: Path) -> None:
    small = Journal.create(root, "journal-0", about="db", segment_bytes=SEGMENT, max_bytes=3 * SEGMENT)
    assert small.problem is None
    written: list[Entry] = []
    while small.problem is None:
        written += entries(len(written))
        small.append(written[-1:], sync=False)
    assert "may take 12,288" in small.problem
    room = entries(*range(1000, 1020))  # those at work find the room that was taken for them
    small.append(room, sync=False)

    def fill() -> None:
        for n in range(2000, 2200):
            small.append(entries(n), sync=False)

    with pytest.raises(OSError, match="may take"):
        fill()
    found = drained(small)
    assert found[: len(written)] == written
    assert set(room) <= set(found)
    small.make_room()
    assert small.problem is None
    small.append(entries(1), sync=False)
    small.close()


def test_a_line_is_checked_by_the_checksum_of_its_kind_id_and_text() -> None:
    line = journals._line(Entry("request", "a", "{}"))
    assert line == b"%08x request a {}\n" % zlib.crc32(b"request a {}")
