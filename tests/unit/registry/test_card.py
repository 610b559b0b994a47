"""The model card: true numbers, text that stays text, and code that runs."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.unit.report import report_samples as samples
from tunery.core.figures import metric_interval, metric_value
from tunery.core.training import BaseModelInfo
from tunery.registry.card import _literal, render_card
from tunery.report import ReportInputs


@pytest.fixture(scope="module")
def whole() -> ReportInputs:
    return samples.whole_run()


def card_of(inputs: ReportInputs, **changes: object) -> str:
    assert inputs.dataset is not None
    assert inputs.adapter is not None
    assert inputs.tuned is not None
    assert inputs.gate is not None
    version = samples.model_version(inputs)
    parts = {
        "version": version,
        "dataset": inputs.dataset,
        "adapter": inputs.adapter,
        "evaluation": inputs.tuned,
        "baselines": {s: e for s, e in inputs.evaluations.items() if s != "tuned"},
        "gate": inputs.gate,
        **changes,
    }
    return render_card(**parts)  # type: ignore[arg-type]


def code_of(card: str, heading: str) -> str:
    found = re.search(rf"## {heading}\n.*?```python\n(.*?)```", card, re.DOTALL)
    assert found
    return found[1]


def test_front_matter_names_base_and_library(whole: ReportInputs) -> None:
    front = yaml.safe_load(card_of(whole).split("---\n")[1])
    assert front["base_model"] == "smollm2-135m-instruct"
    assert front["library_name"] == "peft"


def test_every_metric_stands_with_interval_and_n(whole: ReportInputs) -> None:
    card = card_of(whole)
    for evaluation in whole.evaluations.values():
        for metric in evaluation.metrics.values():
            assert f"{metric_value(metric)} ({metric_interval(metric)}, n {metric.n:,})" in card


def test_a_card_says_what_it_must(whole: ReportInputs) -> None:
    card = card_of(whole)
    headings = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert headings == [
        "Intended use",
        "Results",
        "Limits",
        "Data",
        "Training",
        "Lineage",
        "Load it in plain PEFT",
        "Call it through the openai client",
    ]
    assert whole.adapter is not None
    assert whole.dataset is not None
    for proof in (whole.adapter.sha256, whole.adapter.base.sha256, whole.dataset.content_sha256):
        assert proof in card
    assert "CC-BY-4.0" in card
    assert "one of 77 labels" in card
    assert "has 4 train rows" in card


def test_a_refused_model_is_called_so_in_its_opening() -> None:
    refused = samples.whole_run(target=0.99)
    assert "Its gate refused it: do not ship it." in card_of(refused).split("## ")[0]


def test_the_weakest_class_is_named_among_the_limits(whole: ReportInputs) -> None:
    assert whole.tuned is not None
    worst = min(whole.tuned.per_class, key=lambda s: (s.f1, s.label)).label
    assert f"`{worst}`" in card_of(whole).split("## Limits")[1].split("## ")[0]


HOSTILE = "a|b `c` ``` <script>alert(1)</script> [x](javascript:alert(1))\n# not a heading\n---\n| x | y |"


def test_hostile_text_changes_nothing_of_the_cards_structure(whole: ReportInputs) -> None:
    def structure(text: str) -> list[str]:
        assert whole.dataset is not None
        assert whole.tuned is not None
        assert whole.gate is not None
        version = samples.model_version(whole).with_(
            labels=(text, "other"), system_prompt=text, config={**samples.RECIPE, "description": text}
        )
        card = card_of(
            whole,
            version=version,
            dataset=whole.dataset.with_(warnings=(text,), dropped={text: 3}, masked={text: 1}),
            evaluation=whole.tuned.with_(
                per_class=tuple(c.with_(label=text) for c in whole.tuned.per_class[:1]),
                confusions=tuple(
                    c.with_(reference=text, prediction=text) for c in whole.tuned.confusions[:1]
                ),
            ),
            gate=whole.gate.with_(rules=tuple(r.with_(sentence=text) for r in whole.gate.rules)),
        )
        body = card.split("---\n", 2)[2]
        return [token.type for token in MarkdownIt("commonmark").enable("table").parse(body)]

    tokens = structure(HOSTILE)
    assert tokens == structure("plain")
    assert "html_block" not in tokens


def test_markup_within_a_line_stays_text(whole: ReportInputs) -> None:
    assert whole.dataset is not None
    card = card_of(whole, dataset=whole.dataset.with_(warnings=("<b>bold</b> [x](javascript:1) `code`",)))
    html = MarkdownIt("commonmark").enable("table").render(card.split("---\n", 2)[2])
    assert "&lt;b&gt;bold&lt;/b&gt; [x](javascript:1) `code`" in html


@given(st.text())
def test_any_text_becomes_a_literal_that_reads_back(text: str) -> None:
    assert ast.literal_eval(_literal(text)) == text


def test_the_peft_code_runs_beside_the_adapter(
    whole: ReportInputs, tiny_model: Path, tiny_adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert whole.adapter is not None
    base = BaseModelInfo(name="tiny", sha256="0" * 64, path=str(tiny_model), parameters=1)
    version = samples.model_version(whole).with_(
        config={"evaluate": {"max_new_tokens": 5}}, system_prompt='Say "it\'s".'
    )
    code = code_of(
        card_of(whole, version=version, adapter=whole.adapter.with_(base=base)), "Load it in plain PEFT"
    )
    monkeypatch.chdir(tiny_adapters["a"])
    printed, names = io.StringIO(), dict[str, object]()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "card", "exec"), names)  # the point of the test
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model), tiny_adapters["a"]
    ).eval()
    messages = [
        {"role": "system", "content": 'Say "it\'s".'},
        {"role": "user", "content": "Put your own input here."},
    ]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")[
        "input_ids"
    ]
    tokens = ids
    for _ in range(5):  # greedy by hand
        tokens = torch.cat([tokens, model(input_ids=tokens).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        if tokens[0, -1] == model.generation_config.eos_token_id:
            break
    expected = tokenizer.decode(tokens[0, ids.shape[1] :], skip_special_tokens=True)
    assert printed.getvalue() == f"{expected}\n"


class _Gateway(BaseHTTPRequestHandler):
    seen: list[tuple[str, str | None, dict[str, object]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, self.headers["Authorization"], body))
        message = {"role": "assistant", "content": "card_declined"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"]}
        payload = json.dumps({**answer, "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[tuple[int, list[tuple[str, str | None, dict[str, object]]]]]:
    handler = type("Handler", (_Gateway,), {"seen": []})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port, handler.seen
        server.shutdown()
        thread.join()


def test_the_openai_code_runs_against_a_server(
    whole: ReportInputs,
    gateway: tuple[int, list[tuple[str, str | None, dict[str, object]]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port, seen = gateway
    code = code_of(card_of(whole), "Call it through the openai client")
    assert code.count("127.0.0.1:8000") == 1
    monkeypatch.setenv("OPENAI_API_KEY", "tk-test")
    printed, names = io.StringIO(), dict[str, object]()
    with contextlib.redirect_stdout(printed):
        exec(compile(code.replace(":8000", f":{port}"), "card", "exec"), names)
    names["client"].close()  # type: ignore[attr-defined]
    assert printed.getvalue() == "card_declined\n"
    ((path, key, body),) = seen
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer tk-test", "banking77-quick@1")
