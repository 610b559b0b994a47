"""Settings of several kinds in one place, told apart by one of their keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from tunery.core.errors import NotFoundError


@dataclass(frozen=True)
class Variants:
    """Annotates a field whose settings are validated by the class that one of their keys names.

    A union of types is fixed when its module is imported. Here classes are looked up whenever settings are
    validated, so that a kind may come in a file of its own that nothing else knows of.
    """

    what: str
    """What the kinds are kinds of, such as ``engine``; for messages."""
    key: str
    """The setting that names the kind."""
    find: Callable[[], Mapping[str, type[BaseModel]]]
    """Returns the kinds there are, by name."""
    default: str
    """The kind of settings without that key."""

    def model_for(self, values: Any) -> type[BaseModel] | None:
        """Return the class that validates ``values``; None where they name a kind that does not exist."""
        name = values.get(self.key, self.default) if isinstance(values, Mapping) else self.default
        return self.find().get(name) if isinstance(name, str) else None

    def read(self, values: Mapping[str, Any]) -> Any:
        """Validate settings by their kind.

        Raises:
            ValidationError: There is no such kind, or a setting is wrong.
        """
        model = self.model_for(values)
        return model.model_validate(values) if model else self._refuse(values)

    def _refuse(self, values: Mapping[str, Any]) -> None:
        unknown = NotFoundError.of(self.what, str(values[self.key]), self.find()).message
        # As a parameter: braces in the message itself would be read as placeholders.
        reason = PydanticCustomError("unknown_kind", "{reason}", {"reason": unknown})
        problem = InitErrorDetails(type=reason, loc=(self.key,), input=values)
        raise ValidationError.from_exception_data(self.what, [problem])

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            lambda values, otherwise: self.read(values) if isinstance(values, Mapping) else otherwise(values),
            handler(source),
            # By the value's own class, or the settings of its kind would be left out.
            serialization=core_schema.simple_ser_schema("any"),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(core_schema.union_schema([_referable(m) for _, m in sorted(self.find().items())]))


def _referable(model: type[BaseModel]) -> core_schema.CoreSchema:
    """Return a class's schema so that it becomes a definition, as one in a plain annotation does."""
    schema: Any = {
        **model.__pydantic_core_schema__,
        "ref": f"{model.__module__}.{model.__name__}:{id(model)}",
    }
    return cast(core_schema.CoreSchema, schema)
