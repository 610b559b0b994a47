"""JSON Lines and JSON arrays: rows that are objects, read one at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tunery.core.errors import ConfigError
from tunery.data.conversations.shapes import PROMPT_COLUMNS, shape_of_keys
from tunery.data.readers.storage.compression import open_bytes
from tunery.data.readers.storage.lines import (
    Unreadable,
    guess_encoding,
    read_lines,
    readable,
    reencode,
    refuse_binary,
    too_large,
)
from tunery.data.rows.refused import broken
from tunery.data.rows.row import NO_VALUE, BadRow, Flaw, RawRow
from tunery.store.urls import InputFile
from tunery.text.pii.mask import redacted_repr

_CHUNK_BYTES = 65_536
_NOT_SPACE = re.compile(r"[^ \t\r\n]")
MAX_DEPTH = 100
"""Levels of nesting accepted in a row. Rows of any known export have under twenty; printing, comparing or
storing a value nested some hundred levels deep overflows Python's stack."""


def read_jsonl(file: InputFile) -> Iterator[RawRow]:
    """Yield the rows of a JSON Lines file; blank lines are passed over.

    A line that is not UTF-8, too long or no JSON object comes as a
    :class:`~tunery.data.rows.refused.Refused` row.

    Raises:
        ConfigError: The file is of another kind, damaged, or cannot be read.
    """
    number = 0
    for line, text in enumerate(read_lines(file, keep_bad_lines=True), 1):
        if isinstance(text, Unreadable):
            number += 1
            yield broken(number, text.fix, text)
        elif not text.isspace():
            number += 1
            try:
                yield RawRow(number, parse_object(text))
            except BadRow as bad:
                yield broken(number, f"{bad.flaws[0].fix} (line {line} of {file.name})", text.strip())


def parse_object(text: str) -> dict[str, Any]:
    """Return the JSON object in ``text``.

    Raises:
        BadRow: It is not JSON, not an object, names a key twice, or is nested too deeply.
    """
    try:
        return _as_object(_STRICT.decode(text), text)
    except json.JSONDecodeError as error:
        fix = f"not JSON: {error.msg} at character {error.pos + 1}"
    except RecursionError:
        fix = _TOO_DEEP
    except ValueError as error:  # an integer of over 4,300 digits
        fix = f"not usable JSON: {error}"
    raise BadRow(Flaw("", NO_VALUE, fix))


def _as_object(value: Any, text: str) -> dict[str, Any]:
    """Return a value that was read from ``text``, unless it is no object or nested too deeply."""
    if not isinstance(value, dict):
        raise BadRow(Flaw("", value, f"a {_KINDS[type(value)]}, where an object {{…}} is expected"))
    if text.count("{") + text.count("[") > MAX_DEPTH and is_too_deep(value):
        raise BadRow(Flaw("", NO_VALUE, _TOO_DEEP))
    return value


_TOO_DEEP = f"nested too deeply, over {MAX_DEPTH} levels"


def is_too_deep(value: Any) -> bool:
    """Tell whether a value has more than :data:`MAX_DEPTH` levels, without recursion."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
            if isinstance(inner, (Mapping, list))
        ]
        if not level:
            return False
    return True


_KINDS = {list: "list", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(n for n in names if names.count(n) > 1)
        raise BadRow(Flaw(twice, NO_VALUE, f"key {twice!r} is given twice in one object"))
    return values


def _not_a_number(_: str) -> None:
    """``NaN`` and ``Infinity`` are no JSON; pandas writes the first for 'no value'."""
    return


_STRICT = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_not_a_number)
_LENIENT = json.JSONDecoder(parse_constant=_not_a_number)
"""Of two keys of one name it takes the later."""


def read_json_array(file: InputFile) -> Iterator[RawRow]:
    """Yield the objects of a JSON file, holding one row at a time.

    The file is a list of objects, or one object that holds such a list (``{"data": [{…}, …]}``), or, when a
    second object follows the first, JSON Lines. What else an object around rows holds is passed over, but
    for a part of their prompts, which is refused. One object with the keys of a row is a row. An element that
    is no object comes as a :class:`~tunery.data.rows.refused.Refused` row.

    Raises:
        ConfigError: It is none of these, or a row is too long or broken so that the next one cannot be found;
            with the row's number.
    """
    with readable(file.name):
        source = _Characters(file)
        opening = source.peek()
        if opening == "{":
            yield from _from_object(source)
        elif opening == "[":
            source.position += 1
            yield from _elements(source)
            source.check_end("list")
        else:
            raise ConfigError(
                f"{file.name}: begins with {opening!r}; a JSON file must be a list of objects: [{{…}}, …]"
            )


def _elements(source: _Characters) -> Iterator[RawRow]:
    """Yield the elements of the list that opened before the position, and stop behind it."""
    name = source.file.name
    for number in _items(source, name, "row"):
        try:
            yield RawRow(number, _as_object(source.take(f"{name}: row {number}"), source.taken))
        except BadRow as bad:
            yield broken(number, f"{bad.flaws[0].fix} (row {number} of {name})", source.taken)


def _items(source: _Characters, where: str, what: str) -> Iterator[int]:
    """Yield the number of each element of the list that opened before the position, which must be taken."""
    number = 0
    while source.peek() not in ("]", ""):
        number += 1
        yield number
        if source.peek() == ",":
            source.position += 1
        elif source.peek() not in ("]", ""):
            raise ConfigError(f"{where}: {what} {number} is not followed by ',' or ']'")
    if source.peek() != "]":
        raise ConfigError(f"{where}: the list is never closed; the file ends after {what} {number}")
    source.position += 1


_FIRST_KEYS = re.compile(
    r'\{(?:\s*"[^"\\]{0,200}"\s*:\s*(?:"[^"\\]*"|[-+.\w]+)\s*,)*\s*"[^"\\]{0,200}"\s*:\s*\[\s*[{\]]'
)
"""How an object begins whose first list is one of objects."""


def _from_object(source: _Characters) -> Iterator[RawRow]:
    """Read a file that begins with an object: a row, rows in lines, or an object around a list of rows."""
    file = source.file
    try:
        value = source.take(file.name, _LENIENT)
        text = source.taken
    except ConfigError:  # too long for a row, or broken further on: a list that it begins with may be good
        wrapper = _FIRST_KEYS.match(source.buffer, source.position) is not None
    else:
        alone = source.peek() == ""
        wrapper = alone and shape_of_keys(value) is None and any(map(_is_list_of_objects, value.values()))
        if alone and not wrapper:  # one row, perhaps over many lines
            try:
                yield RawRow(1, parse_object(text))
            except BadRow as bad:
                raise ConfigError(f"{file.name}: row 1: {bad.flaws[0].fix}") from None
            return
    yield from _wrapped(_Characters(file)) if wrapper else read_jsonl(file)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _wrapped(source: _Characters) -> Iterator[RawRow]:
    """Yield the rows of the one list of objects that a file's object holds, passing over the rest."""
    name = source.file.name
    found: str | None = None
    source.peek()
    source.position += 1
    while source.peek() == '"':
        key = source.take(f"{name}: a key")
        where = f"{name}: {redacted_repr(key)}"
        if source.peek() != ":":
            raise ConfigError(f"{name}: key {redacted_repr(key)} is not followed by ':'")
        source.position += 1
        if source.peek() != "[" or key in PROMPT_COLUMNS:
            value = source.take(where, _LENIENT)
            if key in PROMPT_COLUMNS and value:
                raise ConfigError(
                    f"{name}: {key!r} stands beside the list of rows, where no row has it",
                    hint="write it into every row; a system turn for all is data.system_prompt in the recipe",
                )
        else:
            source.position += 1
            if source.peek() != "{":
                for _ in _items(source, where, "element"):
                    source.take(where, _LENIENT)
            elif found is not None:
                raise ConfigError(
                    f"{name}: two lists of objects, {found!r} and {key!r:.60}",
                    hint="put each list in a file of its own",
                )
            else:
                found = key
                yield from _elements(source)
        if source.peek() == ",":
            source.position += 1
    if source.peek() != "}":
        raise ConfigError(f"{name}: the object is never closed, or broken at {source.ahead()!r}")
    source.position += 1
    source.check_end("object")
    if found is None:
        raise ConfigError(f"{name}: the object holds no list of objects, which would be the rows")


class _Characters:
    """The decoded text of a file; what lies before ``position`` is forgotten when more is read."""

    def __init__(self, file: InputFile) -> None:
        self.file = file
        self.buffer = ""
        self.position = 0
        self.taken = ""
        """Text of the value that was taken last."""
        self._chunks = self._read()

    def _read(self) -> Iterator[str]:
        name = self.file.name
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        read = 0
        with open_bytes(self.file.file) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                if not read:
                    refuse_binary(chunk, name)
                try:
                    text = decoder.decode(chunk)
                except UnicodeDecodeError as error:
                    guess = guess_encoding(error.object)
                    raise ConfigError(
                        f"{name}: not UTF-8 near byte {read + error.start}; it looks like {guess}",
                        hint=reencode(guess, name),
                    ) from None
                read += len(chunk)
                yield text

    def _more(self) -> bool:
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
            if not self._more():
                return ""

    def ahead(self) -> str:
        """Return what comes next, for a message."""
        return self.buffer[self.position :][:20]

    def check_end(self, of: str) -> None:
        """Refuse a file that goes on."""
        if self.peek() != "":
            raise ConfigError(f"{self.file.name}: something follows the end of the {of}: {self.ahead()!r}")

    def take(self, where: str, decoder: json.JSONDecoder = _STRICT) -> Any:
        """Return the value that begins here and pass over it.

        Raises:
            BadRow: A key stands twice in one object; the position is behind the value all the same.
            ConfigError: It is not JSON, nested beyond what can be read, or too long; the position stays.
        """
        limit = self.file.max_row_bytes
        fault: BadRow | None = None
        while True:
            try:
                value, end = decoder.raw_decode(self.buffer, self.position)
            except BadRow as bad:
                decoder, fault = _LENIENT, bad
                continue
            except json.JSONDecodeError as error:
                held = len(self.buffer) - self.position
                if held > limit:
                    raise too_large(where, "it", limit) from None
                # Text that only ended too early is completed by more of the file. An open string is reported
                # at its opening quote, everything else where the parser stood.
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(error.doc) - 16
                if not (cut and self._more()):
                    raise ConfigError(f"{where} is not JSON: {error.msg}") from None
                # A long value is tried again when twice as much of it is there, not after every chunk.
                while len(self.buffer) - self.position < 2 * held and self._more():
                    pass
                continue
            except RecursionError:
                raise ConfigError(f"{where} is {_TOO_DEEP}") from None
            except ValueError as error:  # an integer of over 4,300 digits
                raise ConfigError(f"{where} is not usable JSON: {error}") from None
            if end - self.position > limit:
                raise too_large(where, "it", limit)
            # A number may go on behind what was read so far: "1.", "1e" and "1e-" are read as 1.
            if len(self.buffer) - end < 3 and isinstance(value, (int, float)) and self._more():
                continue
            self.taken = self.buffer[self.position : end]
            self.position = end
            if fault is not None:
                raise fault
            return value
