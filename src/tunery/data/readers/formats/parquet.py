"""Parquet and Arrow: rows read batch by batch, and the names of classes that they number."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tunery.core.errors import ConfigError
from tunery.data.readers.formats.nested import is_nested, unfilled
from tunery.data.readers.storage.compression import MAX_RATIO, open_seekable
from tunery.data.readers.storage.lines import readable
from tunery.data.rows.refused import broken
from tunery.data.rows.row import RawRow
from tunery.store.urls import InputFile

_BATCH_ROWS = 1024
_BATCH_BYTES = 16 << 20
"""Rows are unpacked so many bytes at a time, as far as the file tells its own sizes [bytes]."""
_FOOTER_BYTES = 64 << 20
"""Longest text, and most entries, accepted in a Parquet footer; the widest real tables stay under 10 MB."""
_FREE_BYTES = 256 << 20
"""A file may unpack to this much whatever its ratio [bytes]."""
_BUFFER_BYTES = 1 << 20
"""A column is read through a buffer of this size, not whole: row groups of a gigabyte exist [bytes]."""


def read_parquet(file: InputFile, *, as_given: str | None = None) -> Iterator[RawRow]:
    """Yield the rows of a Parquet file; a row that is too long as a refused one.

    A packed file (``.parquet.gz``) is unpacked into a temporary file first. All values of a nested column
    have the same keys: where other rows have a key that a row has not, it is null there. Such keys are left
    out and named in :attr:`~tunery.data.rows.row.RawRow.filled`; a null that was meant cannot be told apart.

    Args:
        file: Which.
        as_given: A column whose nulls stay.

    Raises:
        ConfigError: Not Parquet, damaged, a column named twice, or one that unpacks to far more than a table
            of rows would.
    """
    return _rows(file, "Parquet", _parquet_batches, as_given)


def read_arrow(file: InputFile, *, as_given: str | None = None) -> Iterator[RawRow]:
    """Yield the rows of an Arrow file, in the file or the stream form, told apart by the first bytes.

    Args:
        file: Which.
        as_given: As for :func:`read_parquet`.

    Raises:
        ConfigError: As :func:`read_parquet`.
    """
    return _rows(file, "Arrow", _arrow_batches, as_given)


def _parquet_batches(stream: IO[bytes], name: str) -> Iterator[pa.RecordBatch]:
    packed = stream.seek(0, 2)
    with pq.ParquetFile(
        stream,
        page_checksum_verification=True,
        thrift_string_size_limit=_FOOTER_BYTES,
        thrift_container_size_limit=_FOOTER_BYTES,
        pre_buffer=False,
        buffer_size=_BUFFER_BYTES,
    ) as file:
        _check_names(file.schema_arrow.names, name)
        yield from file.iter_batches(batch_size=_batch_rows(file.metadata, name, packed))


def _batch_rows(metadata: Any, name: str, packed: int) -> int:
    """Return how many rows to unpack at a time, after a look at what the file claims to hold.

    Only sizes of whole row groups are asked for: with those of single columns, a damaged footer makes pyarrow
    26 end the process instead of raising.
    """
    unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    _check_ratio(unpacked, packed, name)
    each = max(unpacked // max(metadata.num_rows, 1), 1)
    return int(max(16, min(_BATCH_ROWS, _BATCH_BYTES // each)))


def _check_ratio(unpacked: int, packed: int, name: str) -> None:
    """Refuse a file that unpacks to far more than rows would."""
    if unpacked > _FREE_BYTES and unpacked > MAX_RATIO * max(packed, 1):
        raise ConfigError(f"{name}: unpacks to {unpacked:,} bytes from {packed:,}; no table of rows does")


def _arrow_batches(stream: IO[bytes], name: str) -> Iterator[pa.RecordBatch]:
    packed = stream.seek(0, 2)
    stream.seek(0)
    in_file_form = stream.read(6) == b"ARROW1"
    stream.seek(0)
    # What a batch unpacks to is known only when it is: one batch over the limit is held before the error.
    unpacked = 0
    with (pa.ipc.open_file if in_file_form else pa.ipc.open_stream)(stream) as reader:
        _check_names(reader.schema.names, name)
        for batch in map(reader.get_batch, range(reader.num_record_batches)) if in_file_form else reader:
            unpacked += batch.get_total_buffer_size()
            _check_ratio(unpacked, packed, name)
            yield batch


def _check_names(names: Sequence[str], name: str) -> None:
    twice = [n for n, c in Counter(names).items() if c > 1]
    if twice:
        raise ConfigError(f"{name}: column named twice: {', '.join(map(repr, twice))}")


def _rows(
    file: InputFile,
    kind: str,
    batches: Callable[[IO[bytes], str], Iterator[pa.RecordBatch]],
    as_given: str | None,
) -> Iterator[RawRow]:
    number = 0
    classes: dict[str, list[str]] | None = None
    with readable(file.name), open_seekable(file.file) as stream, _explained(file.name, kind):
        for batch in batches(stream, file.name):
            classes = _class_names(batch.schema) if classes is None else classes
            nested = {f.name: f.type for f in batch.schema if is_nested(f.type)}
            # What a damaged file claims of its own offsets is checked before anything is read through them.
            batch.validate(full=True)
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                for values in batch.slice(start, _BATCH_ROWS).to_pylist():
                    number += 1
                    if _size(values) > file.max_row_bytes:
                        fix = f"longer than {file.max_row_bytes:,} bytes; raise max_row_bytes of this source"
                        fix = f"{fix} (row {number} of {file.name})"
                        yield broken(number, fix, f"{len(values)} columns")
                        continue
                    for column, names in classes.items():
                        values[column] = _class_name(values[column], names)
                    filled: set[str] = set()
                    for column, of in nested.items():
                        kept = column == as_given
                        values[column] = unfilled(values[column], of, column, filled, keep=kept)
                    yield RawRow(number, _missing_as_none(values), tuple(sorted(filled)))


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Return the names of the classes that ``datasets`` wrote as numbers, by column.

    Source:
        ``datasets.ClassLabel``; its features lie as JSON under ``huggingface`` in the schema's metadata.
    """
    written = (schema.metadata or {}).get(b"huggingface")
    if written is None:
        return {}
    try:
        features = json.loads(written)["info"]["features"]
        found = {n: f["names"] for n, f in features.items() if f.get("_type") == "ClassLabel"}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}  # written by another program, or damaged; then the numbers are all there is
    listed = {n: names for n, names in found.items() if isinstance(names, list) and n in schema.names}
    return {n: names for n, names in listed.items() if all(isinstance(name, str) for name in names)}


def _class_name(value: Any, names: Sequence[str]) -> Any:
    """Return a class by its number; -1 is no class, and what is no number of one stays as it is."""
    if type(value) is not int or not -1 <= value < len(names):
        return value
    return None if value == -1 else names[value]


@contextmanager
def _explained(name: str, kind: str) -> Iterator[None]:
    """Turn whatever Arrow raises over damaged bytes into one :class:`ConfigError`."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # a damaged file makes Arrow raise of every kind, KeyError and TypeError too
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{name}: not a readable {kind} file: {first:.200}") from None


def _size(values: Mapping[str, Any]) -> int:
    return sum([len(v) if type(v) is str or type(v) is bytes else _inner_size(v) for v in values.values()])


def _inner_size(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, list):
        return sum(map(_inner_size, value))
    return sum(map(_inner_size, value.values())) if isinstance(value, dict) else 8


def _missing_as_none(values: dict[str, Any]) -> dict[str, Any]:
    for column, value in values.items():
        if type(value) is float and math.isnan(value):
            values[column] = None
    return values
