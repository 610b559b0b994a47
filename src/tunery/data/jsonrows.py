"""JSON Lines and JSON arrays: rows that are objects, read one at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunery.core.errors import ConfigError
from tunery.data.lines import guess_encoding, open_bytes, read_lines, readable, refuse_foreign, too_large
from tunery.data.rows import BadRow, Flaw, RawRow, shown

_CHUNK_BYTES = 65_536
_MAX_PROBLEMS = 10
_NOT_SPACE = re.compile(r"[^ \t\r\n]")


def read_jsonl(path: Path, name: str, *, max_row_bytes: int) -> Iterator[RawRow]:
    """Yield the rows of a JSON Lines file; blank lines are passed over.

    Raises:
        ConfigError: Lines that are not JSON objects, each with its number; or text that is not UTF-8.
    """
    problems: list[str] = []
    number = 0
    for line in read_lines(path, name, max_bytes=max_row_bytes):
        if not line.text.strip():
            continue
        number += 1
        try:
            yield RawRow(number, parse_object(line.text))
        except BadRow as bad:
            problems.append(f"row {number} (line {line.number}): {bad.flaws[0].fix}")
            if len(problems) == _MAX_PROBLEMS:
                break
    if problems:
        raise ConfigError.of_problems(name, problems)


def parse_object(text: str) -> dict[str, Any]:
    """Return the JSON object in ``text``.

    Raises:
        BadRow: It is not JSON, not an object, names a key twice, or is nested too deeply.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_not_a_number)
    except json.JSONDecodeError as error:
        raise BadRow(Flaw("", "", f"not JSON: {error.msg} at character {error.pos + 1}")) from None
    except RecursionError:
        raise BadRow(Flaw("", "", "nested too deeply")) from None
    if not isinstance(value, dict):
        raise BadRow(Flaw("", shown(value), f"a {_KINDS[type(value)]}, where an object {{…}} is expected"))
    return value


_KINDS = {list: "list", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(n for n in names if names.count(n) > 1)
        raise BadRow(Flaw(twice, "", f"key {twice!r} is given twice in one object"))
    return made


def _not_a_number(_: str) -> None:
    """``NaN`` and ``Infinity`` are no JSON; pandas writes the first for 'no value'."""
    return


def read_json_array(path: Path, name: str, *, max_row_bytes: int) -> Iterator[RawRow]:
    """Yield the objects of a file that is one JSON array, holding one row at a time.

    A file that begins with ``{`` instead is taken as JSON Lines.

    Raises:
        ConfigError: It is neither, or a row is broken or over ``max_row_bytes``; with the row's number.
    """
    with readable(name):
        source = _Characters(path, name)
        opening = source.peek()
        if opening == "{":
            yield from read_jsonl(path, name, max_row_bytes=max_row_bytes)
            return
        if opening != "[":
            raise ConfigError(
                f"{name}: begins with {opening!r}; a JSON file must be a list of objects: [{{…}}, …]"
            )
        source.position += 1
        decoder = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_not_a_number)
        number = 0
        while source.peek() not in ("]", ""):
            number += 1
            yield RawRow(number, _next_object(source, decoder, f"{name}: row {number}", max_row_bytes))
            if source.peek() == ",":
                source.position += 1
            elif source.peek() not in ("]", ""):
                raise ConfigError(f"{name}: row {number} is not followed by ',' or ']'")
        if source.peek() != "]":
            raise ConfigError(f"{name}: the list is never closed; the file ends after row {number}")


class _Characters:
    """The decoded text of a file; what lies before ``position`` is forgotten when more is read."""

    def __init__(self, path: Path, name: str) -> None:
        self._chunks = self._read(path, name)
        self.buffer = ""
        self.position = 0

    @staticmethod
    def _read(path: Path, name: str) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        read = 0
        with open_bytes(path) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                if not read:
                    refuse_foreign(chunk, name)
                try:
                    text = decoder.decode(chunk)
                except UnicodeDecodeError as error:
                    guess = guess_encoding(error.object)
                    raise ConfigError(
                        f"{name}: not UTF-8 near byte {read + error.start}; it looks like {guess}",
                        hint=f"iconv -f {guess} -t UTF-8 {name} > utf8-{Path(name).name}",
                    ) from None
                read += len(chunk)
                yield text

    def more(self) -> bool:
        """Append the next chunk; False at the end of the file."""
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self.buffer = self.buffer[self.position :] + chunk
        self.position = 0
        return True

    def peek(self) -> str:
        """Pass over white space and return the character there, '' at the end."""
        while True:
            found = _NOT_SPACE.search(self.buffer, self.position)
            if found:
                self.position = found.start()
                return found.group()
            self.position = len(self.buffer)
            if not self.more():
                return ""


def _next_object(
    source: _Characters, decoder: json.JSONDecoder, where: str, max_row_bytes: int
) -> dict[str, Any]:
    if source.peek() != "{":
        found = source.buffer[source.position :][:20]
        raise ConfigError(f"{where} begins with {found!r}; expected an object {{…}}")
    while True:
        try:
            value, end = decoder.raw_decode(source.buffer, source.position)
        except json.JSONDecodeError as error:
            if len(source.buffer) - source.position > max_row_bytes:
                raise too_large(where, "it", max_row_bytes) from None
            if not (_may_be_cut(error) and source.more()):
                raise ConfigError(f"{where} is not JSON: {error.msg}") from None
        except RecursionError:
            raise ConfigError(f"{where} is nested too deeply") from None
        except BadRow as bad:
            raise ConfigError(f"{where}: {bad.flaws[0].fix}") from None
        else:
            if end - source.position > max_row_bytes:
                raise too_large(where, "it", max_row_bytes)
            source.position = end
            return dict(value)


def _may_be_cut(error: json.JSONDecodeError) -> bool:
    """Tell whether the text may only have ended too early; then more of the file may mend it.

    An open string is reported at its opening quote, everything else where the parser stood.
    """
    return error.msg.startswith("Unterminated string") or error.pos >= len(error.doc) - 16
