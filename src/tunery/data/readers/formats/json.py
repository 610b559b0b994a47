"""JSON Lines and JSON arrays: rows that are objects, read one at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunery.core.errors import ConfigError
from tunery.data.conversations.shapes import shape_of_keys
from tunery.data.readers.storage.compression import open_bytes
from tunery.data.readers.storage.lines import (
    Unreadable,
    guess_encoding,
    read_blocks,
    readable,
    refuse_binary,
    too_large,
)
from tunery.data.readers.storage.urls import RawFile
from tunery.data.rows.refused import broken
from tunery.data.rows.row import NO_VALUE, BadRow, Flaw, RawRow
from tunery.text.pii.mask import redacted_repr

_CHUNK_BYTES = 65_536
_NOT_SPACE = re.compile(r"[^ \t\r\n]")
MAX_DEPTH = 100
"""Levels of nesting accepted in a row. Rows of any known export have under twenty; printing, comparing or
storing a value nested some hundred levels deep overflows Python's stack."""


def read_jsonl(path: RawFile, name: str, *, max_row_bytes: int) -> Iterator[RawRow]:
    """Yield the rows of a JSON Lines file; blank lines are passed over.

    A line that is not UTF-8, too long or no JSON object comes as a
    :class:`~tunery.data.rows.refused.Refused` row.

    Args:
        path: The file.
        name: How messages call it.
        max_row_bytes: Longest row accepted [bytes].

    Raises:
        ConfigError: The file is of another kind, damaged, or cannot be read.
    """
    number = line = 0
    for block in read_blocks(path, name, max_bytes=max_row_bytes, keep_bad_lines=True):
        for text in block:
            line += 1
            if isinstance(text, Unreadable):
                number += 1
                yield broken(number, text.fix, text)
                continue
            try:
                values = parse_object(text)
            except BadRow as bad:
                if text and not text.isspace():
                    number += 1
                    yield broken(number, f"{bad.flaws[0].fix} (line {line} of {name})", text.strip())
            else:
                number += 1
                yield RawRow(number, values)


def parse_object(text: str) -> dict[str, Any]:
    """Return the JSON object in ``text``.

    Raises:
        BadRow: It is not JSON, not an object, names a key twice, or is nested too deeply.
    """
    try:
        value = _PLAIN.decode(text)
        if not _keys_are_unique(value, text):
            value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BadRow(Flaw("", NO_VALUE, f"not JSON: {error.msg} at character {error.pos + 1}")) from None
    except RecursionError:
        raise BadRow(Flaw("", NO_VALUE, _TOO_DEEP)) from None
    except ValueError as error:  # an integer of over 4,300 digits
        raise BadRow(Flaw("", NO_VALUE, f"not usable JSON: {error}")) from None
    if not isinstance(value, dict):
        raise BadRow(Flaw("", value, f"a {_KINDS[type(value)]}, where an object {{…}} is expected"))
    if text.count("{") + text.count("[") > MAX_DEPTH and is_too_deep(value):
        raise BadRow(Flaw("", NO_VALUE, _TOO_DEEP))
    return value


def _keys_are_unique(value: Any, text: str) -> bool:
    """Tell cheaply, for most rows, that no key was lost to a later one of the same name.

    Where no colon stands apart from its key, every key is written ``":``. As many keys as there are of these
    is then proof; anything else (deeper nesting, a text with ``":`` in it) proves nothing and is read again
    with a check at every object, which takes three times as long.
    """
    if not isinstance(value, dict) or " :" in text or "\t:" in text or "\r:" in text or "\n:" in text:
        return False
    keys = len(value)
    for inner in value.values():
        if type(inner) is list:
            keys += sum([len(turn) for turn in inner if type(turn) is dict])
        elif type(inner) is dict:
            keys += len(inner)
    return keys == text.count('":')


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


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_not_a_number)
_PLAIN = json.JSONDecoder(parse_constant=_not_a_number)


def read_json_array(path: RawFile, name: str, *, max_row_bytes: int) -> Iterator[RawRow]:
    """Yield the objects of a JSON file, holding one row at a time.

    The file is a list of objects, or one object that holds such a list (``{"data": [{…}, …]}``), or, when a
    second object follows the first, JSON Lines. One object with the keys of a row is a row. An element that
    is no object comes as a :class:`~tunery.data.rows.refused.Refused` row.

    Args:
        path: The file.
        name: How messages call it.
        max_row_bytes: Longest row accepted [bytes].

    Raises:
        ConfigError: It is none of these, or a row is over ``max_row_bytes`` or broken so that the next one
            cannot be found; with the row's number.
    """
    with readable(name):
        source = _Characters(path, name, max_row_bytes)
        opening = source.peek()
        if opening == "{":
            yield from _from_object(source)
            return
        if opening != "[":
            raise ConfigError(
                f"{name}: begins with {opening!r}; a JSON file must be a list of objects: [{{…}}, …]"
            )
        source.position += 1
        yield from _elements(source)
        if source.peek() != "":
            raise ConfigError(f"{name}: something follows the end of the list: {source.ahead()!r}")


def _elements(source: _Characters) -> Iterator[RawRow]:
    """Yield the elements of the list that opened before the position, and stop behind it."""
    for number in _items(source, source.name, "row"):
        where = f"{source.name}: row {number}"
        try:
            yield RawRow(number, _next_object(source, where))
        except BadRow as bad:
            start = source.position
            _skip_value(source, where)
            text = source.buffer[start : source.position]
            yield broken(number, f"{bad.flaws[0].fix} (row {number} of {source.name})", text)


def _items(source: _Characters, where: str, what: str) -> Iterator[int]:
    """Yield the number of each element of the list that opened before the position, which must be passed."""
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


def _from_object(source: _Characters) -> Iterator[RawRow]:
    """Read a file that begins with an object: a row, rows in lines, or an object around a list of rows."""
    try:
        value, end = _scan(source, source.name, _PLAIN)
    except ConfigError:  # too long for a row, or broken further on: a list in it may still be good
        wrapper = _is_wrapper(source)
    else:
        source.position = end
        alone = source.peek() == ""
        wrapper = alone and shape_of_keys(value) is None and _list_key(value) is not None
        if alone and not wrapper:
            yield _alone(source.again())
            return
    if wrapper:
        yield from _wrapped(source.again())
    else:
        yield from read_jsonl(source.path, source.name, max_row_bytes=source.max_row_bytes)


def _alone(source: _Characters) -> RawRow:
    """Read a file that is one row, perhaps over many lines."""
    try:
        return RawRow(1, _next_object(source, f"{source.name}: row 1"))
    except BadRow as bad:
        raise ConfigError(f"{source.name}: row 1: {bad.flaws[0].fix}") from None


def _list_key(value: Mapping[str, Any]) -> str | None:
    """Return the key of the first list of objects in an object."""
    return next((k for k, v in value.items() if isinstance(v, list) and v and isinstance(v[0], dict)), None)


_FIRST_KEYS = re.compile(
    r'\s*\{(?:\s*"[^"\\]{0,200}"\s*:\s*(?:"[^"\\]*"|[-+.\w]+)\s*,)*\s*"[^"\\]{0,200}"\s*:\s*\[\s*[{\]]'
)


def _is_wrapper(source: _Characters) -> bool:
    """Tell whether an object too large to look at whole begins with a list of objects.

    Only then is it read as one; anything else that long is a line without its end.
    """
    source.peek()
    return _FIRST_KEYS.match(source.buffer, source.position) is not None


def _wrapped(source: _Characters) -> Iterator[RawRow]:
    """Yield the rows of the one list of objects that a file's object holds, passing over the rest."""
    name = source.name
    found: str | None = None
    source.peek()
    source.position += 1
    while source.peek() == '"':
        key, source.position = _scan(source, f"{name}: a key")
        if source.peek() != ":":
            raise ConfigError(f"{name}: key {redacted_repr(key)} is not followed by ':'")
        source.position += 1
        where = f"{name}: {redacted_repr(key)}"
        if source.peek() != "[":
            _skip_value(source, where)
        else:
            source.position += 1
            if source.peek() != "{":
                for _ in _items(source, where, "element"):
                    _skip_value(source, where)
            elif found is not None:
                raise ConfigError(
                    f"{name}: two lists of objects, {found!r} and {str(key)!r:.60}",
                    hint="put each list in a file of its own",
                )
            else:
                found = str(key)
                yield from _elements(source)
        if source.peek() == ",":
            source.position += 1
            source.peek()
    if source.peek() != "}":
        raise ConfigError(f"{name}: the object is never closed, or broken at {source.ahead()!r}")
    source.position += 1
    if source.peek() != "":
        raise ConfigError(f"{name}: something follows the end of the object: {source.ahead()!r}")
    if found is None:
        raise ConfigError(f"{name}: the object holds no list of objects, which would be the rows")


def _skip_value(source: _Characters, where: str) -> None:
    try:
        _, source.position = _scan(source, where, _PLAIN)
    except BadRow as bad:
        raise ConfigError(f"{where} is {bad.flaws[0].fix}") from None


class _Characters:
    """The decoded text of a file; what lies before ``position`` is forgotten when more is read."""

    def __init__(self, path: RawFile, name: str, max_row_bytes: int) -> None:
        self.path, self.name, self.max_row_bytes = path, name, max_row_bytes
        self._chunks = self._read()
        self.buffer = ""
        self.position = 0

    def again(self) -> _Characters:
        """Return the same file from its beginning."""
        return _Characters(self.path, self.name, self.max_row_bytes)

    def _read(self) -> Iterator[str]:
        name = self.name
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        read = 0
        with open_bytes(self.path) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                if not read:
                    refuse_binary(chunk, name)
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

    def ahead(self) -> str:
        """Return what comes next, for a message."""
        return self.buffer[self.position :][:20]


def _next_object(source: _Characters, where: str) -> dict[str, Any]:
    """Return the object that begins here.

    Raises:
        BadRow: It is another kind of value, has a key twice, or is nested too deeply.
        ConfigError: It is not JSON, or too long.
    """
    if source.peek() != "{":
        raise BadRow(Flaw("", NO_VALUE, f"begins with {source.ahead()!r}; expected an object {{…}}"))
    value, end = _scan(source, where)
    text = source.buffer
    brackets = text.count("{", source.position, end) + text.count("[", source.position, end)
    if brackets > MAX_DEPTH and is_too_deep(value):
        raise BadRow(Flaw("", NO_VALUE, _TOO_DEEP))
    source.position = end
    return dict(value)


def _scan(source: _Characters, where: str, decoder: json.JSONDecoder = _DECODER) -> tuple[Any, int]:
    """Return the value that begins here and where it ends; the position stays.

    Raises:
        BadRow: A key stands twice in one object.
        ConfigError: It is not JSON, nested beyond what can be read, or too long.
    """
    while True:
        try:
            value, end = decoder.raw_decode(source.buffer, source.position)
        except json.JSONDecodeError as error:
            if len(source.buffer) - source.position > source.max_row_bytes:
                raise too_large(where, "it", source.max_row_bytes) from None
            held = len(source.buffer) - source.position
            if not (_may_be_cut(error) and source.more()):
                raise ConfigError(f"{where} is not JSON: {error.msg}") from None
            # A long value is tried again when twice as much of it is there, not after every chunk.
            while len(source.buffer) - source.position < 2 * held and source.more():
                pass
        except RecursionError:
            raise ConfigError(f"{where} is {_TOO_DEEP}") from None
        except ValueError as error:  # an integer of over 4,300 digits
            raise ConfigError(f"{where} is not usable JSON: {error}") from None
        else:
            if end - source.position > source.max_row_bytes:
                raise too_large(where, "it", source.max_row_bytes)
            # A number may go on behind what was read so far: "1.", "1e" and "1e-" are read as 1.
            if len(source.buffer) - end < 3 and isinstance(value, (int, float)) and source.more():
                continue
            return value, end


def _may_be_cut(error: json.JSONDecodeError) -> bool:
    """Tell whether the text may only have ended too early; then more of the file may complete it.

    An open string is reported at its opening quote, everything else where the parser stood.
    """
    return error.msg.startswith("Unterminated string") or error.pos >= len(error.doc) - 16
