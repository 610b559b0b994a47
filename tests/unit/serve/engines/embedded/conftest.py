"""An engine on the tiny model, and plain PEFT beside it as the reference."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tunery.serve.engines.embedded.engine import EmbeddedEngine
from tunery.serve.engines.embedded.settings import EmbeddedSettings

EngineFactory = Callable[..., EmbeddedEngine]


@pytest.fixture
def make_engine(tiny_model: Path, tiny_adapters: dict[str, Path]) -> Iterator[EngineFactory]:
    """Return a function that starts an engine with adapters a, b and c and the settings given."""
    engines = []

    def make(**settings: Any) -> EmbeddedEngine:
        engine = EmbeddedEngine(tiny_model, settings=EmbeddedSettings(**settings))
        engines.append(engine)
        for name, path in tiny_adapters.items():
            engine.load_adapter(name, str(path))
        return engine

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture(scope="session")
def peft_reference(tiny_model: Path, tiny_adapters: dict[str, Path]) -> PeftReference:
    """Plain PEFT on the same weights."""
    return PeftReference(tiny_model, tiny_adapters)


class PeftReference:
    """Runs one prompt at a time with PEFT's own model."""

    def __init__(self, base: Path, adapters: dict[str, Path]) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers
            model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
            names = list(adapters)
            self.model = PeftModel.from_pretrained(model, adapters[names[0]], adapter_name=names[0])
            for name in names[1:]:
                self.model.load_adapter(adapters[name], adapter_name=name)
        self.model.eval()

    @torch.inference_mode()
    def logprobs(self, ids: Sequence[int], adapter: str | None) -> torch.Tensor:
        """Return log-probabilities after each token, shape ``(tokens, vocabulary)``."""
        return self._run(adapter, lambda: self.model(torch.tensor([ids])).logits[0].double()).log_softmax(-1)

    @torch.inference_mode()
    def generate(
        self, ids: Sequence[int], adapter: str | None, tokens: int, stop: frozenset[int]
    ) -> list[int]:
        """Return greedy ids as PEFT's ``generate`` gives them, stop token included."""
        prompt = torch.tensor([ids])
        out = self._run(
            adapter,
            lambda: self.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=tokens,
                do_sample=False,
                eos_token_id=sorted(stop),
                pad_token_id=0,
            ),
        )
        return list(out[0, len(ids) :].tolist())

    def _run(self, adapter: str | None, work: Callable[[], Any]) -> Any:
        if adapter is None:
            with self.model.disable_adapter():
                return work()
        self.model.set_adapter(adapter)
        return work()
