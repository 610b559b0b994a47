"""An example: one row of a dataset, as a conversation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field

from tunery.core.config import Record
from tunery.core.ids import canonical_json, sha256_text

Role = Literal["system", "user", "assistant", "tool"]


DESIRABLE, UNDESIRABLE = "desirable", "undesirable"
"""What people thought of an answer."""


class Message(Record):
    """One turn."""

    role: Role
    """Who speaks."""
    content: str
    """Its text."""
    weight: Literal[0, 1] = 1
    """0 keeps an assistant turn out of the loss; other roles are never trained on."""


class SentMessage(Message):
    """A turn that a client sent with more than its text: calls with their ids, results with theirs, parts."""

    wire: Mapping[str, Any] = Field(exclude=True, repr=False)
    """The turn in the words of chat completions, for servers that read these; never stored."""


class Example(Record):
    """A conversation whose assistant turns are what the model should learn to say.

    In a preference pair ``messages`` ends with the preferred answer and ``rejected`` holds the other one. Of
    an unpaired preference ``desirable`` says whether the answer is to become likelier or less likely.
    """

    id: str
    """Hash of the content, so that the same row has the same id in every version."""
    messages: tuple[Message, ...] = Field(min_length=1)
    """The conversation, ending with an assistant turn."""
    rejected: str | None = None
    """The answer that was not preferred, in a preference pair."""
    desirable: bool | None = None
    """Whether people liked the answer, in an unpaired preference; None where nobody was asked."""
    group: str
    """Examples of one group never straddle splits; an example alone in its group carries its own id."""
    label: str | None = None
    """The class, where the outputs are a closed set."""
    metadata: Mapping[str, Any] = Field(default_factory=dict)
    """Where it came from: ``source``, ``row`` (1-based, header not counted) and mapped extra columns."""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the last assistant turn."""
        return self.messages[:-1]

    @property
    def reference(self) -> str:
        """The last assistant turn: the answer to be reached, or to be avoided where it is undesirable."""
        return self.messages[-1].content

    @property
    def answers(self) -> tuple[str, ...]:
        """What tells rows of one prompt apart: the answers, and what people thought of a single one."""
        judged = () if self.desirable is None else (DESIRABLE if self.desirable else UNDESIRABLE,)
        return (self.reference, self.rejected or "", *judged)


def example_id(
    messages: tuple[Message, ...],
    rejected: str | None = None,
    desirable: bool | None = None,  # noqa: FBT001 - it is content, like the others
) -> str:
    """Return ``ex-`` and 16 hex digits of the SHA-256 of the content."""
    return short_id(content_sha256(messages, rejected, desirable))


def short_id(sha256: str) -> str:
    """Return the id of the example whose content has this hash."""
    return f"ex-{sha256[:16]}"


def numbered(ids: Iterable[str]) -> Iterator[str]:
    """Yield ids, with a number behind those that came before: ``ex-…``, ``ex-…-2``, ``ex-…-3``."""
    seen: Counter[str] = Counter()
    for identity in ids:
        seen[identity] += 1
        yield identity if seen[identity] == 1 else f"{identity}-{seen[identity]}"


def content_sha256(
    messages: tuple[Message, ...],
    rejected: str | None = None,
    desirable: bool | None = None,  # noqa: FBT001 - it is content, like the others
) -> str:
    """Return the SHA-256 of what an example says, as 64 hex digits."""
    content = [[m.role, m.content, m.weight] for m in messages]
    # Nothing is added where nobody was asked, so that such rows keep the ids they have always had.
    return sha256_text(canonical_json([content, rejected, *([] if desirable is None else [desirable])]))


class Dropped(Record):
    """A row that curation removed, kept with its reason."""

    source: str
    """File it came from."""
    row: int
    """1-based row number in that file, header not counted."""
    reason: str
    """Short stable word, such as ``exact_duplicate``, ``near_duplicate``, ``empty_output``, ``too_long``."""
    detail: str
    """One sentence with the values: which row it repeats, how long it is."""
    text: str
    """The row's content as JSON, cut to 2,000 characters."""


def where(example: Example) -> str:
    """Return where a row came from, for a message: its file and row, else its id."""
    row = example.metadata.get("row")
    return f"{example.metadata.get('source', 'row')} row {row}" if row is not None else example.id


def without_system(messages: Iterable[Message]) -> list[Message]:
    """Return the turns but the system's, which are the same for all rows."""
    return [m for m in messages if m.role != "system"]


def messages_text(messages: Iterable[Message]) -> str:
    """Return what turns say, one below the other, the system's left out."""
    return "\n".join(m.content for m in without_system(messages))


def prompt_text(example: Example) -> str:
    """Return what stands before the answer, as rows are compared by it."""
    return messages_text(example.prompt)


SPLIT_HINT = "split_hint"
"""Key in a row's own ``metadata``: ``train`` keeps it out of held-out splits, whatever the recipe says."""
SEED_PROMPTS = "seed_prompts"
"""Key beside it in a synthetic row: fingerprints of the prompts it was written after. Where one of them is
held out, the row would tell training what the test asks, and is removed."""

LIKED = "kto_tag"
"""Key beside a conversation that says whether people liked its answer, as LLaMA-Factory has it."""

REQUEST_ID = "request_id"
"""Key beside it in a row made of a served call: whose, so that a call that is taken back can be traced."""


class Drop(NamedTuple):
    """Why a row is removed."""

    reason: str
    """Short stable word, counted in the manifest."""
    detail: str
    """One sentence with the values."""
