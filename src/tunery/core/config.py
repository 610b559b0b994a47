"""Settings: the base class, strict YAML, ``key=value`` overrides, and all problems at once."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from tunery.core.errors import ConfigError, did_you_mean
from tunery.core.variants import Variants


class Settings(BaseModel):
    """Base of every group of settings: frozen, unknown keys refused, field docstrings are the help text."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )


S = TypeVar("S", bound=Settings)


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, except that a key given twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, (list, dict)):
                raise ConfigError(f"line {line}: a key must be a plain word")
            if key in seen:
                raise ConfigError(f"line {line}: key {key!r} is given twice (first on line {seen[key]})")
            seen[key] = line
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping; aliases are plain YAML, tags are refused, duplicate keys are errors.

    Raises:
        ConfigError: The file is missing, not UTF-8, not YAML, or not a mapping; says which line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", hint="ls recipes/") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; a recipe is one YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return parse_yaml(text, where=str(path))


def parse_yaml(text: str, *, where: str) -> dict[str, Any]:
    """Parse YAML text as :func:`read_yaml` does; ``where`` names it in messages."""
    try:
        # A SafeLoader subclass: no object construction.
        value = yaml.load(text, Loader=_StrictLoader)  # noqa: S506
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise ConfigError(f"{where}:{at} {getattr(error, 'problem', None) or 'not YAML'}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected a mapping of settings, found {type(value).__name__}")
    return dict(value)


_PATH_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return ``values`` with ``key=value`` overrides applied.

    A key is a dotted path with list positions in brackets, as in
    ``data.sources[0].limit_per_class=26``; the value is read as YAML.

    Raises:
        ConfigError: An override has no ``=``, or its path runs through something that has no such place.

    >>> apply_overrides({"train": {"epochs": 3}}, ["train.epochs=4"])
    {'train': {'epochs': 4}}
    """
    result: dict[str, Any] = _copy(values)
    problems = []
    for override in overrides:
        key, equals, raw = override.partition("=")
        parts = [int(i) if i else name for name, i in _PATH_PART.findall(key)]
        if not equals or not parts:
            problems.append(f"{override!r} is not of the form key=value")
            continue
        try:
            _place(result, parts, yaml.safe_load(raw) if raw else None)
        except yaml.YAMLError:
            problems.append(f"{key}: {raw!r} is not YAML; put it in quotes, as in {key}='\"{raw}\"'")
        except (KeyError, IndexError, TypeError):
            problems.append(f"{key!r} names no setting of this recipe")
    if problems:
        raise ConfigError.of_problems("overrides", problems)
    return result


def find_moved(values: Mapping[str, Any], moved: Mapping[str, str]) -> dict[str, str]:
    """Return those of ``moved``, dotted paths to where they stand now, that are set at their old place."""
    return {old: new for old, new in moved.items() if _holder(values, old) is not None}


def move_settings(values: Mapping[str, Any], moved: Mapping[str, str]) -> dict[str, Any]:
    """Return settings with those at an old place taken to the new one, where that is not set itself.

    >>> move_settings({"clean": {"least": 2}, "length": None}, {"clean.least": "length.least"})
    {'clean': {}, 'length': {'least': 2}}
    """
    current: dict[str, Any] = copy.deepcopy(dict(values))
    for old, new in find_moved(current, moved).items():
        holder = cast(dict[str, Any], _holder(current, old))
        value = holder.pop(old.rpartition(".")[2])
        *path, last = new.split(".")
        target: Any = current
        for part in path:
            if isinstance(target, dict):
                if target.get(part) is None:
                    target[part] = {}
                target = target[part]
        if isinstance(target, dict):  # anything else is refused where the settings are validated
            target.setdefault(last, value)
    return current


def _holder(values: Mapping[str, Any], path: str) -> dict[str, Any] | None:
    """Return the mapping that holds the setting at a dotted path; None where there is none."""
    *parents, last = path.split(".")
    node: Any = values
    for part in parents:
        node = node.get(part) if isinstance(node, Mapping) else None
    return node if isinstance(node, dict) and last in node else None


def _copy(value: Any) -> Any:
    """Return a deep copy in which what YAML aliases shared stands twice, so that an override meets one."""
    if isinstance(value, Mapping):
        return {k: _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, list) else value


def _place(root: Any, parts: Sequence[str | int], value: Any) -> None:
    node = root
    for here, following in itertools.pairwise(parts):
        if isinstance(here, int):
            node = node[here]
        else:
            if not isinstance(node, dict):
                raise TypeError(here)
            if node.get(here) is None:
                if isinstance(following, int):
                    raise KeyError(here)
                node[here] = {}
            node = node[here]
    last = parts[-1]
    if isinstance(last, int) != isinstance(node, list) or not isinstance(node, (dict, list)):
        raise TypeError(last)
    node[last] = value  # type: ignore[index]  # list goes with int, dict with str: checked above


def parse_settings(model: type[S], values: Mapping[str, Any], *, where: str) -> S:
    """Validate ``values`` as ``model`` and report every problem at once, each with its path.

    Raises:
        ConfigError: Lists all problems; an unknown key comes with the nearest known one.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [
            _explain(model, values, dict(e)) for e in error.errors(include_url=False, include_context=True)
        ]
        raise ConfigError.of_problems(where, problems) from None


def _explain(model: type[BaseModel], values: Mapping[str, Any], error: Mapping[str, Any]) -> str:
    location = tuple(error["loc"])
    path = _dotted(location)
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, values, location[:-1])
        meant = did_you_mean(str(location[-1]), known)
        return f"{path}: unknown setting" + (
            meant or f" (known here: {', '.join(sorted(set(known))) or 'none'})"
        )
    if error["type"] == "missing":
        return f"{path}: missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    value = f" (got {given!r:.80})" if isinstance(given, (str, int, float, bool, type(None))) else ""
    return f"{path}: {message}{value}" if path else f"{message}"


def _dotted(location: Sequence[str | int]) -> str:
    out = ""
    for part in location:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else str(part))
    return out


def _known_keys(model: type[BaseModel], values: Any, location: Sequence[str | int]) -> list[str]:
    """Return field names of whatever models may stand at ``location`` (unions give the sum)."""
    here: list[Any] = [model]
    for part in location:
        following: list[Any] = []
        for kind in _chosen(here, values) if isinstance(part, str) else here:
            if isinstance(part, str) and isinstance(kind, type) and issubclass(kind, BaseModel):
                field = kind.model_fields.get(part)
                following += _models_in(field.rebuild_annotation()) if field else [kind]
            else:
                following.append(kind)
        values = _value_at(values, part)
        here = following
    return [
        n
        for kind in _chosen(here, values)
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for n in kind.model_fields
    ]


def _chosen(kinds: Sequence[Any], values: Any) -> list[Any]:
    return [kind.model_for(values) if isinstance(kind, Variants) else kind for kind in kinds]


def _value_at(values: Any, part: str | int) -> Any:
    try:
        return values[part]
    except (KeyError, IndexError, TypeError):
        return None


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return [m for m in metadata if isinstance(m, Variants)] or _models_in(inner)
    return [m for arg in get_args(annotation) for m in _models_in(arg)]


class Record(BaseModel):
    """Base of every stored record: frozen, and refusing what it does not know."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        ser_json_inf_nan="null",
    )

    def with_(self, **changes: Any) -> Self:
        """Return a copy with some fields replaced, validated again."""
        return type(self).model_validate(
            {**{n: getattr(self, n) for n in type(self).model_fields}, **changes}
        )


NonEmpty = Annotated[str, StringConstraints(min_length=1)]
