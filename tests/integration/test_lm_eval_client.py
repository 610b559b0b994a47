"""lm-evaluation-harness's own ``local-completions`` client, unmodified, over a socket against the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalCompletionsAPI

from tests.integration.live_api import BASE, live
from tunery.store.workspace import Workspace

PAIRS = [
    ("The capital of France is", " Paris."),
    ("", "One two three"),
    ("Caf\u00e9 \u4f60\u597d, one", " two \u00e9\u00e9"),
    *(("Question: which one?\nAnswer:", f" {letter}") for letter in "ABCD"),
]


@pytest.fixture(scope="module")
def url(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    home = tmp_path_factory.mktemp("home")
    workspace = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
    with live(workspace, tiny_model) as running:
        yield f"{running.url}/v1/completions", running.secret
    workspace.close()


def request(kind: str, *arguments: Any) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


@pytest.mark.parametrize(("batch", "as_ids"), [(1, True), (4, True), (3, False)])
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_its_figures_are_those_of_its_own_backend(
    url: tuple[str, str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch, batch: int, as_ids: bool
) -> None:
    address, secret = url
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    client = LocalCompletionsAPI(
        base_url=address,
        model=BASE,
        tokenizer=str(tiny_model),
        batch_size=batch,
        tokenized_requests=as_ids,
        max_length=512,
        max_retries=1,
    )
    reference = HFLM(str(tiny_model), device="cpu", dtype="float32", batch_size=4)
    requests = [request("loglikelihood", *pair) for pair in PAIRS[0 if as_ids else 2 :]]
    expected = reference.loglikelihood(requests, disable_tqdm=True)
    found = client.loglikelihood(requests, disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    asked = [
        request("generate_until", text, {"until": ["zz", "\n\n"], "max_gen_toks": 12})
        for text in ("The capital of France is", "One two three four five")
    ]
    assert client.generate_until(asked, disable_tqdm=True) == reference.generate_until(
        asked, disable_tqdm=True
    )
