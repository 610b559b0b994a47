"""Chat templates that a recipe may put in place of a base's own: ChatML, Alpaca's, or a Jinja file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.errors import ConfigError, did_you_mean
from tunery.model.tokenizer import load_hf_tokenizer

INPUT_HEADING = "\n\n### Input:\n"
"""What Alpaca's prompt has between an instruction and its input."""
_CHATML_END = "<|im_end|>"
_JINJA = (".jinja", ".jinja2")
_MOST_BYTES = 1 << 20
"""A template has a few kilobytes [bytes]."""

_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + END + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The words are those of Stanford's PROMPT_DICT, down to the answer that follows the colon at once.
_ALPACA = (
    "{% set heading = '\n\n### Input:\n' %}"
    "{% set task = messages[0]['content'] if messages and messages[0]['role'] == 'system' else none %}"
    "{% set turns = messages if task is none else messages[1:] %}"
    "{% set asked = turns[0]['content'] if turns else '' %}"
    "{% if task is not none or heading in asked %}"
    "{{ 'Below is an instruction that describes a task, paired with an input that provides further ' }}"
    "{{ 'context. ' }}"
    "{% else %}{{ 'Below is an instruction that describes a task. ' }}{% endif %}"
    "{{ 'Write a response that appropriately completes the request.\n\n' }}"
    "{% for turn in turns %}"
    "{% if turn['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') %}"
    "{{ raise_exception('turns must alternate user/assistant, behind one system turn at most') }}{% endif %}"
    "{% if turn['role'] == 'user' %}{{ '### Instruction:\n' }}"
    "{% if loop.first and task is not none %}"
    "{{ task + ('\n\n' if heading in turn['content'] else heading) }}{% endif %}"
    "{{ turn['content'] + '\n\n### Response:' }}"
    "{% else %}{{ turn['content'] + END + ('' if loop.last else '\n\n') }}{% endif %}{% endfor %}"
)


class ChatTemplate(NamedTuple):
    """A template that takes the place of a base's own."""

    name: str
    """``chatml``, ``alpaca``, or the name of the file without its ending."""
    text: str
    """Jinja, for this base's tokenizer."""


def _chatml(hf: Any) -> str:
    """Turns between ``<|im_start|>`` and ``<|im_end|>``."""
    known = _CHATML_END in {t.content for t in hf.added_tokens_decoder.values()}
    return _written_for(hf, _CHATML, end=f"'{_CHATML_END}'" if known else None)


def _alpaca(hf: Any) -> str:
    """``### Instruction:``, ``### Input:`` and ``### Response:``, as Stanford's Alpaca has them."""
    return _written_for(hf, _ALPACA)


_BUILT_IN: Mapping[str, Callable[[Any], str]] = {"chatml": _chatml, "alpaca": _alpaca}
NAMES = tuple(_BUILT_IN)
"""Templates that have a name."""


def is_template_file(spec: object) -> bool:
    """Tell whether something is the name of a Jinja file."""
    return isinstance(spec, str) and spec.endswith(_JINJA)


def check_chat_template(spec: str) -> str:
    """Return what names a template as it is.

    Raises:
        ConfigError: It is neither a name nor a Jinja file's.
    """
    if spec not in NAMES and not is_template_file(spec):
        meant = did_you_mean(spec, NAMES)
        raise ConfigError(f"{spec!r:.80} is no chat template{meant}: {', '.join(NAMES)}, or a file.jinja")
    return spec


def chat_template_of(spec: str, base: Path, *, base_dir: Path | None = None) -> ChatTemplate:
    """Return the template that ``spec`` names, as it is written for a base.

    Where the base's tokenizer has no token ``<|im_end|>``, ChatML's turns end with its end-of-sequence token,
    and ``<|im_start|>`` is the characters: an embedding that was never trained is worse than either. What is
    built in begins with the token that the tokenizer itself puts before every text, if it does.

    Args:
        spec: ``chatml``, ``alpaca`` or the path of a Jinja file.
        base: Folder of the base.
        base_dir: What a relative path is relative to; the current directory when None.

    Raises:
        ConfigError: There is no such template, the file cannot be read, or the base has no token that could
            end an answer.

    Source:
        ChatML: https://github.com/openai/openai-python/blob/release-v0.28.0/chatml.md.
        Alpaca: ``PROMPT_DICT`` of https://github.com/tatsu-lab/stanford_alpaca/blob/main/train.py; an
        instruction's input is what stands behind ``### Input:`` in the user's turn, and the whole turn where
        a system turn instructs.
    """
    check_chat_template(spec)
    if spec in _BUILT_IN:
        return ChatTemplate(spec, _BUILT_IN[spec](load_hf_tokenizer(base)))
    path = (base_dir or Path.cwd()) / Path(spec).expanduser()
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"chat template {path}: no such file", param="chat_template") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"chat template {path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"chat template {path}: {error.strerror}") from None
    if len(content) > _MOST_BYTES or not text.strip():
        what = f"longer than {_MOST_BYTES:,} bytes" if text.strip() else "empty"
        raise ConfigError(f"chat template {path}: {what}", param="chat_template")
    return ChatTemplate(path.stem, text)


def _written_for(hf: Any, template: str, *, end: str | None = None) -> str:
    if end is None and hf.eos_token is None:
        raise ConfigError(
            "the base's tokenizer has no end-of-sequence token, so nothing could end an answer",
            hint="give a chat_template: FILE.jinja that ends answers with a token of the base",
        )
    begins = hf.bos_token is not None and hf("a").input_ids[:1] == [hf.bos_token_id]
    return ("{{ bos_token }}" if begins else "") + template.replace("END", end or "eos_token")
