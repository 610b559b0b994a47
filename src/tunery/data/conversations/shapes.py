"""Shapes of rows: which one a row has, and which columns play which part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from tunery.core.dataset import Shape
from tunery.core.errors import ConfigError
from tunery.core.example import LIKED, REQUEST_ID
from tunery.data.config import ColumnsConfig, SourceConfig
from tunery.data.conversations.values import is_blank
from tunery.data.rows.refused import REFUSED_KEY

PromptPart = Literal["system", "history", "tools", "weight"]
# Keys that mark a shape, the surest first: a preference row may also have an instruction and an output.
_MARKS: tuple[tuple[Shape, tuple[str, ...]], ...] = (
    ("preference", ("preferred_output", "non_preferred_output")),
    ("preference", ("chosen", "rejected")),
    ("chat", ("messages",)),
    ("completion", ("prompt", "completion")),
    ("instruction", ("instruction", "output")),
    ("columns", ("input", "output")),
    # Last, because other files keep the id of a conversation under such a name.
    ("chat", ("conversations",)),
    ("chat", ("conversation",)),
)
TURN_COLUMNS = ("messages", "conversations", "conversation")
"""What OpenAI's, ShareGPT's and files like them call the list of turns."""
# Parts without which a row of that shape means nothing; preference rows vary too much for such a list.
_NEEDED: dict[Shape, tuple[str, ...]] = {
    "columns": ("input", "output"),
    "instruction": ("instruction", "output"),
    "chat": ("messages",),
    "completion": ("prompt", "completion"),
    "preference": (),
}


_PROMPT_PARTS: dict[PromptPart, tuple[str, ...]] = {
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "tools": ("tools", "functions"),
    "weight": ("weight",),
}
"""Parts that a row of any shape may have, and what formats call their columns."""
PROMPT_COLUMNS = frozenset(
    name for part, names in _PROMPT_PARTS.items() if part != "weight" for name in names
)
"""Columns that hold a part of the prompt, whatever the shape."""
_PREFERENCE_PROMPTS = (("prompt",), ("messages",), ("instruction", "input"), ("input",))
"""Parts that hold the prompt of a preference pair, the one that is taken first."""
REFERENCE = "reference_answer"
"""Key in OpenAI's reinforcement files."""
UNSEEN = ("images", "image", "videos", "video", "audios", "audio")
"""Columns of what is no text; where one holds a list or an object, the text is not whole without it."""
LABEL = "label"
"""Column that says in TRL's files whether people liked the answer of an unpaired preference."""
_AS_A_LABEL = frozenset({"true", "false", "1", "0", "1.0", "0.0"})
"""What a column called ``label`` says of an answer; anything else is a class."""
_QUIET = ("metadata", "parallel_tool_calls", REFUSED_KEY)
"""Keys that are metadata by their name, or say how a model is asked and nothing of what it is to answer."""
_OF_TRAFFIC = ("user", "model", "request_id")
"""Columns that say where a served call came from; quiet in rows whose metadata names the call."""


class Mapped(NamedTuple):
    """A shape together with the column that plays each part."""

    shape: Shape
    column: Mapping[str, str]
    """Part, such as ``input``, to the file's column."""
    needed: tuple[str, ...]
    """Columns that every file of this shape must have."""
    beside: Mapping[PromptPart, tuple[str, ...]]
    """Part that any shape may have to the columns in which a row may have it."""
    used: frozenset[str]
    """Columns that are read or declared; any other is passed over."""
    watched: frozenset[str]
    """Columns that say something beside the question; a row without any is as its shape's columns say."""
    desirable: tuple[str, ...] = ()
    """Columns that may say whether people liked the answer, the one that is looked at first."""
    guessed: frozenset[str] = frozenset()
    """Columns among ``beside`` that are taken by their name although the recipe maps others of a table."""
    before_input: str = "\n\n"
    """What stands between an instruction and its input."""


def wanted_columns(columns: ColumnsConfig) -> tuple[str, ...]:
    """Return the columns that the mapping names, each of which must exist."""
    return (*_parts(columns).values(), *columns.groups, *columns.metadata)


def _parts(columns: ColumnsConfig) -> dict[str, str]:
    """Return the column of each part of a conversation that the mapping names."""
    named = columns.model_dump(exclude={"metadata", "group"})
    return {part: name for part, name in named.items() if name is not None}


def shape_of_keys(keys: Mapping[str, Any]) -> Shape | None:
    """Return the shape that a row's keys mark, or None."""
    return next((shape for shape, keys_of_shape in _MARKS if all(k in keys for k in keys_of_shape)), None)


def map_columns(source: SourceConfig, first: Mapping[str, Any]) -> Mapped:
    """Decide how a file's rows are read, from the settings and its first row.

    Raises:
        ConfigError: Neither the settings nor the keys mark a shape; lists the columns there are.
    """
    shape = source.shape if source.shape != "auto" else _shape_of_mapping(source.columns, first)
    shape = shape or shape_of_keys(first)
    if shape is None:
        raise ConfigError(
            f"{source.path}: cannot tell how to read rows with the columns {', '.join(map(repr, first))}",
            hint="set columns: {input: …, output: …} for this source",
        )
    column = {part: part for part in ColumnsConfig.model_fields if part not in ("metadata", "group")}
    column.update(_parts(source.columns))
    if shape == "preference" and "chosen" not in first and source.columns.chosen is None:
        column["chosen"], column["rejected"] = ("preferred_output", "non_preferred_output")
    if shape in ("chat", "preference") and source.columns.messages is None and "messages" not in first:
        column["messages"] = next((n for n in TURN_COLUMNS if n in first), "messages")
    parts = ("chosen", "rejected") if shape == "preference" else _NEEDED[shape]
    needed = (*(column[p] for p in parts), *wanted_columns(source.columns))
    beside = {part: _places(part, names, source.columns) for part, names in _PROMPT_PARTS.items()}
    read = [column[p] for p in (*parts, *_asked_by(shape, column, first))]
    around = {name for names in beside.values() for name in names}
    used = {*read, *needed, *_QUIET, *around}
    about = first.get("metadata")
    if isinstance(about, Mapping) and REQUEST_ID in about:
        used |= set(_OF_TRAFFIC)
    if shape == "chat":
        used |= {REFERENCE, *(TURN_COLUMNS if source.columns.messages is None else ())}
    named = _parts(source.columns).values()
    liked = (LIKED, *([LABEL] if shape in ("completion", "chat") else []))
    desirable = (
        (source.columns.desirable,)
        if source.columns.desirable
        else tuple(name for name in liked if name not in used and not _is_class(name, first, shape, column))
    )
    used |= {name for name in desirable if name != LABEL or says_rating(first, shape, column["completion"])}
    watched = {*around, *UNSEEN, *desirable}
    return Mapped(
        shape,
        column,
        needed=tuple(dict.fromkeys(needed)),
        beside=beside,
        used=frozenset(used),
        watched=frozenset(watched - (used - around - set(desirable))),
        desirable=desirable,
        guessed=frozenset(around.difference(named) if named and shape == "columns" else ()),
        before_input=source.before_input or "\n\n",
    )


def _places(part: PromptPart, usual: Sequence[str], columns: ColumnsConfig) -> tuple[str, ...]:
    """Return the columns that may hold a part: the one that the mapping names, else what formats call it."""
    named = getattr(columns, part)
    if named is not None:
        return (named,)
    taken = {*columns.metadata, *columns.groups, *_parts(columns).values()}
    return tuple(name for name in usual if name not in taken)


def _asked_by(shape: Shape, column: Mapping[str, str], first: Mapping[str, Any]) -> Sequence[str]:
    """Return the parts, besides those that a shape needs, that hold the prompt of a file's rows."""
    if shape == "instruction":
        return ("input",)
    if shape != "preference":
        return ()
    if isinstance(first.get(column["input"]), Mapping):
        return ("input",)
    held = (parts for parts in _PREFERENCE_PROMPTS if first.get(column[parts[0]]) is not None)
    return next(held, ())


def _is_class(name: str, first: Mapping[str, Any], shape: Shape, column: Mapping[str, str]) -> bool:
    """Tell whether the first row shows that a column holds classes, whatever later rows have in it."""
    return (
        name == LABEL
        and not is_blank(first.get(LABEL))
        and not says_rating(first, shape, column["completion"])
    )


def says_rating(values: Mapping[str, Any], shape: Shape, completion: str) -> bool:
    """Tell whether a row's column ``label`` says what people thought of its answer, and is no class."""
    given = values.get(LABEL)
    if isinstance(given, bool):
        return True
    # Tables have it as text or number; where that is the answer itself, it is a class.
    if shape != "completion" or str(given) == str(values.get(completion)):
        return False
    return str(given).strip().lower() in _AS_A_LABEL


def is_metadata(column: str) -> bool:
    """Tell whether a column is metadata by its name."""
    return column.startswith("metadata.")


def _shape_of_mapping(columns: ColumnsConfig, first: Mapping[str, Any]) -> Shape | None:
    """Return the shape that the named parts imply, or None when none is named."""
    if columns.chosen or columns.rejected:
        return "preference"
    if columns.messages:
        return "chat"
    if columns.completion or (columns.prompt and "completion" in first):
        return "completion"
    if columns.instruction:
        return "preference" if "chosen" in first and "rejected" in first else "instruction"
    if columns.input or columns.output:
        return "columns"
    return None
