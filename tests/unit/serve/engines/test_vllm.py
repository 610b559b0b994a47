"""What vLLM would refuse of an adapter is found before it is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunery.core.errors import ConfigError
from tunery.serve.engines import engine_settings
from tunery.serve.engines.upstream.vllm import VllmDialect, adapter_problems
from tunery.serve.engines.vllm import VllmSettings

PLAIN = {
    "peft_type": "LORA",
    "r": 16,
    "lora_alpha": 32,
    "target_modules": ["q_proj", "down_proj"],
    "bias": "none",
    "modules_to_save": None,
}


def folder(tmp_path: Path, **changes: Any) -> Path:
    (tmp_path / "adapter_config.json").write_text(json.dumps({**PLAIN, **changes}), encoding="utf-8")
    return tmp_path


def test_a_plain_adapter_has_no_problem(tmp_path: Path) -> None:
    assert adapter_problems(folder(tmp_path), 16) == []
    assert adapter_problems(folder(tmp_path, r=512), None) == []
    assert adapter_problems(tmp_path / "elsewhere", 16) == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"r": 24}, "rank 24 is above --max-lora-rank 16; start it with --max-lora-rank 32"),
        ({"rank_pattern": {"q_proj": 600}}, "rank 600 .* smaller train.lora.rank"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "bias='all'"),
        ({"modules_to_save": ["lm_head"]}, "whole layers .modules_to_save=.'lm_head"),
        ({"init_lora_weights": "pissa"}, "changed the base weights"),
        ({"target_modules": ["q_proj", "odd"]}, "adapts no odd"),
    ],
)
def test_what_it_would_refuse_is_named_with_what_mends_it(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    dialect = VllmDialect(16)
    with pytest.raises(ConfigError, match=why):
        dialect.load(lambda path, body: pytest.fail("it was asked"), "a", str(folder(tmp_path, **changes)))


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"command": ["vllm", "serve"]}, 16),
        ({"command": ["vllm", "serve", "--max-lora-rank", "64"]}, 64),
        ({"command": ["vllm", "serve", "--max-lora-rank=32"]}, 32),
        ({"command": ["vllm", "serve"], "max_lora_rank": 8}, 8),
        ({"base_url": "http://127.0.0.1:1/v1"}, None),
    ],
)
def test_the_highest_rank_is_what_the_command_says(settings: dict[str, Any], limit: int | None) -> None:
    read = engine_settings({"kind": "vllm", **settings})
    assert isinstance(read, VllmSettings)
    assert read.rank_limit == limit


def test_it_needs_a_command_or_an_address() -> None:
    with pytest.raises(ValueError, match="needs the command that starts it, or the base_url"):
        engine_settings({"kind": "vllm"})
