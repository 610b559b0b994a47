"""What chat and completion bodies have in common: sampling, constraints, who asks, and honest refusals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from tunery.core.config import Settings
from tunery.core.engine import Constraint, Sampling
from tunery.core.errors import did_you_mean
from tunery.serve.openai.strict_json import BadJson, read_strictly

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


def text_parts(*kinds: str) -> BeforeValidator:
    """Return the check that refuses parts that are no text, before their fields are looked at."""

    def check(content: Any) -> Any:
        for place, part in enumerate(content if isinstance(content, list) else ()):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in kinds:
                message = f"{kind!r:.40} is not served here; models here read text alone"
                problem = PydanticCustomError("value_error", "{message}", {"message": message})
                details = InitErrorDetails(type=problem, loc=(place, "type"), input=None)
                raise ValidationError.from_exception_data("request", [details])
        return content

    return BeforeValidator(check)


def _refuse_nul(value: Any) -> Any:
    """No database looks up a name with this character."""
    if isinstance(value, str) and "\0" in value:
        raise ValueError("holds the character NUL")
    return value


Name = Annotated[Text, BeforeValidator(_refuse_nul)]
"""Text that is looked up or stored as a name."""
_TOLD = 20
"""Unknown fields named in one refusal at most [count]: the nearest known word of each takes its time."""
MetadataKey = Annotated[Name, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[Name, StringConstraints(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
"""OpenAI's metadata: at most 16 pairs, keys to 64 characters, values to 512."""


class Wire(BaseModel):
    """Base of what a client sends: an unknown field is refused by its name, as OpenAI's servers do.

    A field is honoured, :data:`Harmless` where no answer depends on it, or :func:`unserved`: nothing that
    would change an answer is passed over.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_field(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or cls.model_config.get("extra") != "forbid":
            return values
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = [name for name in values if name not in known]
        if unknown:
            raise ValidationError.from_exception_data(
                cls.__name__, [_unknown(name, values[name], known) for name in unknown[:_TOLD]]
            )
        return values


def wrong(field: str, message: str) -> ValidationError:
    """Return the error of a field whose value does not go together with others."""
    problem = PydanticCustomError("value_error", "{message}", {"message": message})
    details = InitErrorDetails(type=problem, loc=(field,), input=None)
    return ValidationError.from_exception_data("request", [details])


def _unknown(name: Any, value: Any, known: Iterable[str]) -> InitErrorDetails:
    meant = did_you_mean(str(name), known)
    problem = PydanticCustomError(UNKNOWN_PARAMETER, "unknown parameter{meant}", {"meant": meant})
    return InitErrorDetails(type=problem, loc=(str(name),), input=value)


UNKNOWN_PARAMETER = "unknown_parameter"
"""Type of the error for a field that does not exist; OpenAI's own code for it."""
Harmless = Any
"""Type of a field that no answer depends on: billing, caching and tracing of other servers."""


def unserved(*neutral: Any) -> BeforeValidator:
    """Return the check of a field that is not served here: null, or one of the values that change nothing."""

    def check(value: Any) -> Any:
        if value is None or any(value == same and type(value) in _LIKE[type(same)] for same in neutral):
            return value
        also = f", or send {_listed(neutral)}" if neutral else ""
        raise ValueError(f"not served here; leave it out{also}")

    return BeforeValidator(check)


_LIKE: dict[type, tuple[type, ...]] = {
    bool: (bool,),  # 0 == False
    int: (int, float),
    str: (str,),
    list: (list,),
    dict: (dict,),
}


def _listed(values: Sequence[Any]) -> str:
    return " or ".join(json.dumps(value) for value in values)


def _is_schema(value: Any) -> Any:
    """Take a schema, or its JSON as vLLM also takes it."""
    if isinstance(value, str):
        try:
            value = read_strictly(value)
        except BadJson as error:
            raise ValueError(f"must be a JSON Schema or the JSON of one ({error})") from None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON Schema, an object")
    return value


Schema = Annotated[dict[str, Any], BeforeValidator(_is_schema)]
"""A JSON Schema; its order is the order of generation."""
Labels = Annotated[list[Text], Field(min_length=1, max_length=10_000)]
Regex = Annotated[Text, StringConstraints(min_length=1, max_length=10_000)]
Grammar = Annotated[Text, StringConstraints(min_length=1, max_length=10_000)]
_ANY_OBJECT: dict[str, Any] = {"type": "object"}


TokenId = Annotated[StrictInt, Field(ge=0, lt=2**31)]
"""A token's place in the vocabulary."""
TokenKey = Annotated[int, Field(ge=0, lt=2**31)]
"""The same as a name in a JSON object, which is text."""
Penalty = Annotated[float | None, Field(ge=-2.0, le=2.0, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100.0, le=100.0, allow_inf_nan=False)]


def _of(
    *,
    labels: Sequence[str] | None = None,
    schema: Mapping[str, Any] | None = None,
    regex: str | None = None,
    grammar: str | None = None,
) -> Constraint | None:
    """Return a constraint of whichever is given, None where nothing is."""
    if labels is None and schema is None and regex is None and grammar is None:
        return None
    return Constraint(tuple(labels) if labels is not None else None, schema, regex, grammar=grammar)


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
    include_obfuscation: Harmless = None
    continuous_usage_stats: Annotated[Any, unserved(False)] = None


class JsonSchema(Wire):
    """The ``json_schema`` part of a response format."""

    name: Text = "schema"
    description: Text | None = None
    """Not shown to the model here: training shows it no schema either."""
    strict: bool | None = None
    """A schema is always followed."""
    schema_: Schema | None = Field(default=None, alias="schema")


class ResponseFormat(Wire):
    """Text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_present(self) -> Self:
        if self.type == "json_schema" and (self.json_schema is None or self.json_schema.schema_ is None):
            raise ValueError("json_schema needs json_schema.schema")
        return self

    def constraint(self) -> Constraint | None:
        """Return what it holds an answer to, None for any text."""
        if self.type == "text":
            return None
        wanted = self.json_schema.schema_ if self.type == "json_schema" and self.json_schema else _ANY_OBJECT
        return _of(schema=wanted)


class TuneryOptions(Wire):
    """The ``tunery`` object of ``extra_body``."""

    labels: Labels | None = None
    """The completion must be one of these."""


class StructuredOutputs(Wire):
    """vLLM's object for what an answer must be; one of these."""

    json_: Schema | None = Field(default=None, alias="json")
    regex: Regex | None = None
    choice: Labels | None = None
    json_object: bool | None = None
    grammar: Grammar | None = None
    structural_tag: Annotated[Any, unserved()] = None
    whitespace_pattern: Annotated[Any, unserved()] = None
    disable_any_whitespace: Annotated[Any, unserved(False)] = None
    disable_additional_properties: Annotated[Any, unserved(False)] = None
    disable_fallback: Harmless = None


class GenerationBody(Wire):
    """Fields that chat and completions share."""

    model: Annotated[Name, StringConstraints(min_length=1, max_length=512)]
    temperature: float | None = Field(default=None, ge=0.0, le=2.0, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0, allow_inf_nan=False)
    presence_penalty: Penalty = None
    frequency_penalty: Penalty = None
    logit_bias: Annotated[dict[TokenKey, Bias], Field(max_length=1024)] | None = None
    """Token ids, as texts, to what is added to their logits."""
    top_k: int | None = Field(default=None, ge=-1, lt=2**31)
    """vLLM's, as the seven below; 0 or -1 for all tokens."""
    min_p: float | None = Field(default=None, ge=0.0, le=1.0, allow_inf_nan=False)
    repetition_penalty: float | None = Field(default=None, gt=0.0, le=100.0, allow_inf_nan=False)
    min_tokens: int | None = Field(default=None, ge=0)
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None
    ignore_eos: StrictBool | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Text | Annotated[list[Text], Field(max_length=16)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: Annotated[Name, StringConstraints(max_length=512)] | None = None
    safety_identifier: Annotated[Name, StringConstraints(max_length=512)] | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    """False keeps the texts of this call out of the request record; the counts stay."""
    response_format: ResponseFormat | None = None
    guided_choice: Labels | None = None
    """vLLM's older spelling of ``tunery.labels``."""
    guided_json: Schema | None = None
    guided_regex: Regex | None = None
    guided_grammar: Grammar | None = None
    """GBNF with a rule ``root``, or Lark with a rule ``start``."""
    structured_outputs: StructuredOutputs | None = None
    """vLLM's present spelling of the four."""
    tunery: TuneryOptions | None = None

    # OpenAI's, for other servers than this
    service_tier: Harmless = None
    prompt_cache_key: Harmless = None
    prompt_cache_options: Harmless = None
    prompt_cache_retention: Harmless = None

    # vLLM's
    guided_whitespace_pattern: Annotated[Any, unserved()] = None
    guided_decoding_backend: Harmless = None
    structural_tag: Annotated[Any, unserved()] = None
    use_beam_search: Annotated[Any, unserved(False)] = None
    length_penalty: Annotated[Any, unserved(1)] = None
    include_stop_str_in_output: Annotated[Any, unserved(False)] = None
    skip_special_tokens: Annotated[Any, unserved(True)] = None
    spaces_between_special_tokens: Annotated[Any, unserved(True)] = None
    truncate_prompt_tokens: Annotated[Any, unserved()] = None
    prompt_logprobs: Annotated[Any, unserved()] = None
    allowed_token_ids: Annotated[Any, unserved()] = None
    bad_words: Annotated[Any, unserved([])] = None
    logits_processors: Annotated[Any, unserved([])] = None
    return_tokens_as_token_ids: Annotated[Any, unserved(False)] = None
    return_token_ids: Annotated[Any, unserved(False)] = None
    add_special_tokens: Annotated[Any, unserved(False)] = None
    priority: Harmless = None
    request_id: Harmless = None
    cache_salt: Harmless = None

    @model_validator(mode="after")
    def _fits_one_form(self) -> Self:
        forms = list(self._forms())
        if len(forms) > 1:
            raise wrong(forms[1].partition(".")[0], f"give one of {', '.join(forms)}")
        if any(not s for s in self.stops):
            raise wrong("stop", "holds an empty string")
        return self

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
        return next(iter(self._forms().values()), None)

    def _forms(self) -> dict[str, Constraint]:
        """Return every form that is asked for, by the field that asks."""
        asked: dict[str, Constraint | None] = {
            "response_format": self.response_format.constraint() if self.response_format else None,
            "tunery.labels": _of(labels=self.tunery.labels) if self.tunery else None,
            "guided_choice": _of(labels=self.guided_choice),
            "guided_json": _of(schema=self.guided_json),
            "guided_regex": _of(regex=self.guided_regex),
            "guided_grammar": _of(grammar=self.guided_grammar),
        }
        if given := self.structured_outputs:
            asked["structured_outputs.choice"] = _of(labels=given.choice)
            asked["structured_outputs.json"] = _of(schema=given.json_)
            asked["structured_outputs.regex"] = _of(regex=given.regex)
            asked["structured_outputs.grammar"] = _of(grammar=given.grammar)
            asked["structured_outputs.json_object"] = _of(schema=_ANY_OBJECT) if given.json_object else None
        return {name: replace(form, field=name) for name, form in asked.items() if form is not None}

    def sampling(
        self, defaults: SamplingDefaults, *, max_tokens: int | None, logprobs: int | None
    ) -> Sampling:
        """Return how the next token is chosen; the two bodies spell the two arguments differently."""
        return Sampling(
            max_tokens=defaults.max_tokens if max_tokens is None else max_tokens,
            temperature=defaults.temperature if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=self.stops,
            logprobs=logprobs,
            top_k=max(0, self.top_k or 0),
            min_p=self.min_p or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            logit_bias=tuple((self.logit_bias or {}).items()),
            min_tokens=self.min_tokens or 0,
            stop_token_ids=tuple(self.stop_token_ids or ()),
            ignore_eos=bool(self.ignore_eos),
        )
