"""What chat and completion bodies have in common: sampling, constraints, who asks, and honest refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from tunery.core.config import Settings
from tunery.core.engine import Constraint, Sampling

MAX_CHOICES = 8
"""Completions one request may ask for [count]."""


def _refuse_lone_surrogates(value: Any) -> Any:
    """JSON can smuggle half a character in; it can be neither tokenised nor stored."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"half a character (a lone surrogate) at position {error.start}") from None
    return value


Text = Annotated[str, BeforeValidator(_refuse_lone_surrogates)]
MetadataKey = Annotated[Text, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[Text, StringConstraints(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
"""OpenAI's metadata: at most 16 pairs, keys to 64 characters, values to 512."""


class Wire(BaseModel):
    """Base of what a client sends: unknown fields are ignored, as OpenAI's servers do."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )


def refuse(fields: Mapping[str, object]) -> None:
    """Raise ValueError for fields that carry a value and are not served."""
    refused = [name for name, value in fields.items() if value]
    if refused:
        raise ValueError(f"not served here: {', '.join(refused)}; leave it out")


class SamplingDefaults(Settings):
    """What a request that leaves it open gets."""

    max_tokens: int = Field(default=512, ge=1)
    """Completion tokens when the request names no limit [count]."""
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    """0 (greedy), so that what was evaluated is what answers; OpenAI's own default is 1."""


class StreamOptions(Wire):
    """How a stream ends."""

    include_usage: bool | None = False
    """Send a last chunk with token counts."""


class JsonSchema(Wire):
    """The ``json_schema`` part of a response format."""

    name: str = "schema"
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class ResponseFormat(Wire):
    """Text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_present(self) -> Self:
        if self.type == "json_schema" and (self.json_schema is None or self.json_schema.schema_ is None):
            raise ValueError("json_schema needs json_schema.schema")
        return self


class TuneryOptions(Wire):
    """The ``tunery`` object of ``extra_body``."""

    labels: Annotated[list[Text], Field(min_length=1, max_length=10_000)] | None = None
    """The completion must be one of these."""


class GenerationBody(Wire):
    """Fields that chat and completions share."""

    model: Annotated[Text, StringConstraints(min_length=1, max_length=512)]
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0, allow_inf_nan=False)
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Text | Annotated[list[Text], Field(max_length=16)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: Annotated[Text, StringConstraints(max_length=512)] | None = None
    safety_identifier: Annotated[Text, StringConstraints(max_length=512)] | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    """False keeps the texts of this call out of the request record; the counts stay."""
    response_format: ResponseFormat | None = None
    guided_choice: Annotated[list[Text], Field(min_length=1, max_length=10_000)] | None = None
    """vLLM's spelling of ``tunery.labels``."""
    tunery: TuneryOptions | None = None
    functions: list[Any] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None

    @model_validator(mode="after")
    def _only_what_is_served(self) -> Self:
        unserved = ("functions", "frequency_penalty", "presence_penalty", "logit_bias")
        refuse({name: getattr(self, name) for name in unserved})
        fixed_form = self.response_format and self.response_format.type != "text"
        if sum(map(bool, (fixed_form, self.guided_choice, self.labels))) > 1:
            raise ValueError("give one of response_format, guided_choice and tunery.labels")
        if any(not s for s in self.stops):
            raise ValueError("stop holds an empty string")
        return self

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The closed set requested under ``tunery``."""
        return tuple(self.tunery.labels) if self.tunery and self.tunery.labels else None

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def choices(self) -> int:
        """Completions wanted for each prompt [count]."""
        return self.n or 1

    @property
    def sticks_by(self) -> str | None:
        """Who the requests of one rollout arm stick by, as the client names them."""
        return self.safety_identifier or self.user

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def constraint(self) -> Constraint | None:
        """Return what the completion must be, None for free text."""
        labels = self.labels or (tuple(self.guided_choice) if self.guided_choice else None)
        if labels:
            return Constraint(labels=labels)
        if self.response_format is None or self.response_format.type == "text":
            return None
        if self.response_format.type == "json_object":
            return Constraint(json_schema={"type": "object"})
        schema = self.response_format.json_schema
        return Constraint(json_schema=schema.schema_ if schema and schema.schema_ is not None else {})

    def sampling(
        self, defaults: SamplingDefaults, *, max_tokens: int | None, logprobs: int | None
    ) -> Sampling:
        """Return how the next token is chosen; the two bodies spell the two arguments differently."""
        return Sampling(
            max_tokens=max_tokens or defaults.max_tokens,
            temperature=defaults.temperature if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=self.stops,
            logprobs=logprobs,
        )
