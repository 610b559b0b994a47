"""vLLM: adapters at run time, token ids both ways, prompts scored by their likelihoods."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunery.core.engine import GenerationRequest, Score
from tunery.core.errors import ConfigError, ResourceError
from tunery.core.training import ADAPTER_CONFIG
from tunery.model.peft_folder import config_problems
from tunery.serve.engines.upstream.dialect import (
    AlreadyLoadedError,
    Piece,
    Post,
    PostLater,
    changed,
    openai_body,
    openai_piece,
)

_SETS = ("top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos")
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's ``--max-lora-rank`` can be."""
_MODULES = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj"}
)


class VllmDialect:
    """vLLM's words; see :class:`tunery.serve.engines.upstream.dialect.Dialect`.

    Args:
        max_lora_rank: What the server was started with; None where it is not known, and the server judges.
    """

    path = "v1/completions"
    takes_adapters = True
    is_native = False

    def __init__(self, max_lora_rank: int | None = None) -> None:
        self._max_rank = max_lora_rank

    def body(self, request: GenerationRequest, model: str, max_tokens: int) -> dict[str, Any]:
        """As the protocol."""
        return {
            **openai_body(request, model, max_tokens),
            **changed(request.sampling, _SETS),
            "return_token_ids": True,
        }

    def piece(self, chunk: Mapping[str, Any]) -> Piece:
        """As the protocol."""
        return openai_piece(chunk)

    async def score(
        self, post: PostLater, prompt: Sequence[int], completion: Sequence[int], model: str
    ) -> Score:
        """As the protocol, by the likelihoods of a prompt that ends with the completion."""
        ids = [*prompt, *completion]
        body = {"model": model, "prompt": ids, "temperature": 0, "max_tokens": 1, "prompt_logprobs": 0}
        each = (await post("v1/completions", body))["choices"][0]["prompt_logprobs"]
        found = [each[place][str(ids[place])] for place in range(len(prompt), len(ids))]
        greedy = all(token.get("rank", 1) == 1 for token in found)
        return Score(float(sum(token["logprob"] for token in found)), len(completion), greedy)

    def load(self, post: Post, name: str, path: str) -> None:
        """As the protocol; what vLLM would refuse, or answer otherwise than was trained, is refused here."""
        if problems := adapter_problems(Path(path), self._max_rank):
            raise ConfigError.of_problems(f"vLLM cannot serve the adapter {name}", problems)
        try:
            post("v1/load_lora_adapter", {"lora_name": name, "lora_path": path})
        except ResourceError as error:
            if "LoRA" in error.message or "lora" in error.message:  # it answers 500 to what it refuses
                raise ConfigError(f"vLLM refuses the adapter {name}: {error.message}") from None
            raise
        except ConfigError as error:
            if "already been loaded" in error.message:
                raise AlreadyLoadedError(error.message) from None
            raise

    def unload(self, post: Post, name: str) -> None:
        """As the protocol."""
        post("v1/unload_lora_adapter", {"lora_name": name})


def adapter_problems(folder: Path, max_rank: int | None) -> list[str]:
    """Return why vLLM would not serve a PEFT folder, a sentence with its remedy each; empty where it would.

    A folder that cannot be read here, which may lie on another machine, has none.
    """
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    problems = []
    ranks = [config.get("r", 0), *(config.get("rank_pattern") or {}).values()]
    if max_rank is not None and max(ranks) > max_rank:
        fits = next((rank for rank in RANKS if rank >= max(ranks)), None)
        remedy = f"start it with --max-lora-rank {fits}" if fits else "train with a smaller train.lora.rank"
        problems.append(f"its rank {max(ranks)} is above --max-lora-rank {max_rank}; {remedy}")
    if config.get("use_dora"):
        problems.append("it is DoRA, which vLLM does not compute; export it with --format merged")
    problems += config_problems(config)
    modules = config.get("target_modules")
    others = sorted({m.rpartition(".")[2] for m in modules} - _MODULES) if isinstance(modules, list) else []
    if others:
        problems.append(f"vLLM adapts no {', '.join(others)} in these models; leave them out of train.lora")
    return problems
