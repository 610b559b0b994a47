"""The trainer's form: transformers and PEFT as they come, one row at a time.

It is slow and answers greedily only. What other engines, merged weights and quantised ones answer is held
against it: this is what training computed, without anything of ours in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tunery.core.errors import ConfigError, NotFoundError
from tunery.serve.engines import EngineSettings

if TYPE_CHECKING:
    from tunery.core.engine import (
        Engine,
        Generation,
        GenerationRequest,
        Health,
        Sampling,
        Score,
        TokenEvent,
    )


class TransformersSettings(EngineSettings):
    """How plain transformers compute."""

    kind: Literal["transformers"] = "transformers"
    """This engine."""

    device: str = "auto"
    """Where it computes: ``auto`` (a CUDA GPU if there is one), ``cpu``, ``cuda``."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of weights and cache."""

    threads: int | None = Field(default=None, ge=1)
    """CPU threads; when empty, as many as PyTorch takes."""

    @property
    def identity(self) -> dict[str, Any]:
        """What answers depend on."""
        return self.model_dump(mode="json", include={"kind", "dtype"})

    @property
    def slots(self) -> int:
        """Requests that it computes at the same time [count]."""
        return 1


SETTINGS = TransformersSettings


def open(base: Path, settings: TransformersSettings) -> Engine:
    """Load the base; raises as :class:`TransformersEngine`."""
    return TransformersEngine(base, settings)


class TransformersEngine:
    """Greedy answers, with penalties and bias, and likelihoods by ``model.generate`` and ``model.forward``.

    Args:
        base: Hugging Face folder.
        settings: How it computes.

    Raises:
        ConfigError: transformers cannot load the base.
        ResourceError: Not enough memory.
    """

    def __init__(self, base: Path, settings: TransformersSettings) -> None:
        import torch

        from tunery.model.device import choose_device
        from tunery.model.load import load_plain
        from tunery.model.tokenizer import load_tokenizer

        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._tokenizer = load_tokenizer(str(base))
        self._device = choose_device(settings.device)
        self._model: Any = load_plain(base, dtype=getattr(torch, settings.dtype)).to(self._device).eval()
        self._folders: dict[str, str] = {}

    @property
    def context_window(self) -> int:
        """Tokens that a prompt and its completion may have together [count]."""
        return self._tokenizer.max_tokens

    def healthy(self) -> Health:
        """Return that it can answer: it has no thread that could stop."""
        from tunery.core.engine import Health

        return Health()

    def load_adapter(self, name: str, path: str) -> None:
        """Load a PEFT folder under ``name``; loading the same name and path again is free."""
        from peft import PeftModel

        if self._folders.get(name) == path:
            return
        self.unload_adapter(name)
        if hasattr(self._model, "peft_config"):
            self._model.load_adapter(path, adapter_name=name)
        else:
            self._model = PeftModel.from_pretrained(self._model, path, adapter_name=name).eval()
        self._folders[name] = path

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter; unknown names are ignored."""
        if self._folders.pop(name, None) is not None:
            self._model.delete_adapter(name)

    def adapters(self) -> tuple[str, ...]:
        """Return the names loaded, sorted."""
        return tuple(sorted(self._folders))

    def submit(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None = None
    ) -> Future[Generation]:
        """Answer one request at once.

        Raises:
            NotFoundError: The adapter is not loaded.
            ConfigError: The prompt does not fit, or something else than a greedy answer is wanted.
        """
        future: Future[Generation] = Future()
        future.set_result(self.generate([request])[0])
        return future

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Answer requests one after the other; raises as :meth:`submit`."""
        return [self._one(request) for request in requests]

    def _one(self, request: GenerationRequest) -> Generation:
        import time

        import torch

        from tunery.core.engine import Generation

        sampling = request.sampling
        wanted = sampling.temperature or sampling.stop or request.constraint or on_likelihoods(request)
        if wanted:
            raise ConfigError(
                "engine transformers answers greedily, and nothing else",
                hint="evaluate.engine.kind=embedded takes constraints, temperatures and stop strings",
            )
        started = time.monotonic()
        prompt = torch.tensor([request.prompt], device=self._device)
        ends = (set() if sampling.ignore_eos else set(self._tokenizer.stop_ids)) | {*sampling.stop_token_ids}
        with self._as(request.adapter), torch.inference_mode():
            ids = self._model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=min(sampling.max_tokens, self.context_window - len(request.prompt)),
                do_sample=False,
                eos_token_id=sorted(ends) or None,
                pad_token_id=min(self._tokenizer.stop_ids, default=0),
                repetition_penalty=sampling.repetition_penalty,
                min_new_tokens=sampling.min_tokens or None,
                sequence_bias={(token,): value for token, value in sampling.logit_bias} or None,
                logits_processor=[_counted(sampling, len(request.prompt))],
            )[0, len(request.prompt) :].tolist()
        stopped = bool(ids) and ids[-1] in ends
        answer = tuple(ids[:-1] if stopped else ids)
        taken = (time.monotonic() - started) * 1000
        return Generation(
            text=self._tokenizer.decode(answer),
            token_ids=answer,
            finish_reason="stop" if stopped else "length",
            prompt_tokens=len(request.prompt),
            cached_tokens=0,
            ttft_ms=taken,
            latency_ms=taken,
        )

    def score(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: str | None = None
    ) -> list[Score]:
        """Return the likelihood of each (prompt ids, completion ids) pair."""
        import torch

        from tunery.core.engine import Score

        found = []
        with self._as(adapter), torch.inference_mode():
            for prompt, completion in rows:
                ids = torch.tensor([[*prompt, *completion]], device=self._device)
                logits = self._model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()  # (C, V)
                likely = torch.log_softmax(logits, dim=-1)
                target = ids[0, len(prompt) :, None]
                greedy = bool((logits.argmax(-1) == target[:, 0]).all())
                total = float(likely.gather(1, target).double().sum())
                found.append(Score(total, len(completion), greedy))
        return found

    def close(self) -> None:
        """Let go of the weights."""
        self._model = None

    @contextmanager
    def _as(self, adapter: str | None) -> Iterator[None]:
        """Answer as an adapter for the length of a block, or as the base.

        Raises:
            NotFoundError: It is not loaded.
        """
        if adapter is not None:
            if adapter not in self._folders:
                raise NotFoundError.of("adapter", adapter, self._folders, hint="tunery registry ls")
            self._model.set_adapter(adapter)
            yield
        elif hasattr(self._model, "disable_adapter"):
            with self._model.disable_adapter():
                yield
        else:
            yield


def _counted(sampling: Sampling, prompt: int) -> Callable[[Any, Any], Any]:
    """Return OpenAI's penalties, which transformers does not have, as a processor of its logits."""

    def processor(ids: Any, scores: Any) -> Any:
        import torch

        counts = torch.bincount(ids[0, prompt:], minlength=scores.shape[1]).to(scores.dtype)
        return (
            scores
            - counts * sampling.frequency_penalty
            - (counts > 0).to(scores.dtype) * sampling.presence_penalty
        )

    return processor


def on_likelihoods(request: GenerationRequest) -> bool:
    """Return whether a request wants likelihoods beside its answer."""
    return request.sampling.logprobs is not None or request.prompt_logprobs is not None
