"""Settings of several kinds: validated by the kind they name, reported by its keys, dumped whole."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest

from tunery.core.config import Settings, parse_settings
from tunery.core.errors import ConfigError
from tunery.core.variants import Variants


class Shape(Settings):
    """A shape."""

    kind: str
    """Which."""


class Circle(Shape):
    """Round."""

    kind: Literal["circle"] = "circle"
    """Round."""
    radius: float = 1.0
    """Of it."""


class Box(Shape):
    """With corners."""

    kind: Literal["box"] = "box"
    """With corners."""
    width: float = 2.0
    """Of it."""


KINDS = {"circle": Circle, "box": Box}


class Page(Settings):
    """A page."""

    shapes: tuple[Annotated[Shape, Variants("shape", "kind", lambda: KINDS, "circle")], ...] = ()
    """On it."""


def test_the_named_kind_validates_and_its_own_settings_are_dumped() -> None:
    page = parse_settings(Page, {"shapes": [{"radius": 3}, {"kind": "box"}]}, where="page")
    assert page.shapes == (Circle(radius=3), Box())
    assert parse_settings(Page, page.model_dump(mode="json"), where="page") == page
    assert Page(shapes=page.shapes) == page


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (
            {"kind": "bax"},
            "shapes[0].kind: no shape named 'bax'; did you mean 'box'? (there is: box, circle)",
        ),
        ({"kind": "{}"}, "shapes[0].kind: no shape named '{}' (there is: box, circle)"),
        ({"kind": 3}, "shapes[0].kind: no shape named '3'"),
        ({"kind": "box", "radius": 1}, "shapes[0].radius: unknown setting (known here: kind, width)"),
        ({"kind": "box", "widht": 1}, "shapes[0].widht: unknown setting; did you mean 'width'?"),
        ({"radius": "far"}, "shapes[0].radius: Input should be a valid number"),
        ("box", "shapes[0]: Input should be a valid dictionary"),
    ],
)
def test_what_is_wrong_is_reported_with_the_keys_of_the_named_kind(shape: Any, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_settings(Page, {"shapes": [shape]}, where="page")
    assert says in refused.value.message


def test_the_schema_defines_every_kind() -> None:
    schema = Page.model_json_schema()
    assert {"Circle", "Box"} <= schema["$defs"].keys()
    found = schema["properties"]["shapes"]["items"]["anyOf"]
    assert found == [{"$ref": "#/$defs/Box"}, {"$ref": "#/$defs/Circle"}]
