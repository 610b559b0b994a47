"""A tokenizer knows what its base can take: system turns and the length of a row."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunery.core.example import Message
from tunery.model.render import render
from tunery.model.tokenizer import context_window, load_tokenizer

STRICT = """{%- for m in messages -%}
{%- if m.role == 'system' -%}{{ raise_exception('System role not supported') }}{%- endif -%}
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""


@pytest.fixture
def strict_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a template that refuses system turns."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "strict"))
    for name in ("chat_template.jinja", "chat_template.json"):
        (folder / name).unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": STRICT}))
    return folder


def test_a_system_text_opens_the_first_user_turn_where_the_template_refuses_one(strict_model: Path) -> None:
    tokenizer = load_tokenizer(strict_model)
    dialogue = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="hello"),
        Message(role="assistant", content="hi"),
    ]
    text = tokenizer.template_text(dialogue, open_turn=False)
    assert text.startswith("<|im_start|>user\nBe brief.\n\nhello<|im_end|>")
    (row,) = render(tokenizer, dialogue)
    trained = "".join(tokenizer.token_text(i) for i, m in zip(row.ids, row.mask, strict=True) if m)
    assert trained == "hi<|im_end|>"
    prompt = tokenizer.render_prompt(dialogue[:2])
    assert row.ids[: len(prompt)] == prompt


def test_a_row_may_be_no_longer_than_the_base_attends(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "short"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 77}))
    assert load_tokenizer(folder).max_tokens == 77


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"max_position_embeddings": 4096, "sliding_window": 1024}, 4096),
        (
            {
                "max_position_embeddings": 131072,
                "rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 4096},
            },
            4096,
        ),
        ({}, None),
    ],
)
def test_the_window_is_the_narrowest_limit(config: dict[str, object], window: int | None) -> None:
    assert context_window(SimpleNamespace(**config)) == window
