"""From recordings to a model that takes the old one's place, or is refused because it cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures_cli import Tunery, home, tunery
from tests.unit.evaluate.scripted import example
from tunery.core.evaluation import Prediction
from tunery.core.example import Message
from tunery.evaluate.arms.answers import GivenAnswers
from tunery.evaluate.arms.config import EndpointArm
from tunery.pipeline.recipe import load_recipe
from tunery.pipeline.rescue.proof import following
from tunery.rescue.folder import RescueFolder
from tunery.rescue.records import (
    Inventory,
    Portion,
    RecordedPrompt,
    Recording,
    Scope,
    SourceJob,
    SourceModel,
)

__all__ = ["home", "tunery"]

MODEL = "ft:gpt-4o-mini-2024-07-18:acme:parcels:Ab1"
WORDS = ["lost", "late", "found", "broken", "heavy", "small"]
KINDS = ["red", "blue"]


def recordings(
    *, truths: bool = True, wrong: int = 10, train: int = 120, held: int = 40
) -> Iterator[Recording]:
    """Yield what an old model answered; every so-many-th answer of it is wrong."""
    for n in range(train + held):
        portion: Portion = "train" if n < train else "holdout"
        truth = KINDS[n % 2]
        yield Recording(
            id=f"p{n}",
            portion=portion,
            origin="training_file",
            messages=({"role": "user", "content": f"{truth} {WORDS[n % 6]} {WORDS[n // 6 % 6]} {n}"},),
            truth=truth if truths else None,
            model=MODEL,
            answer=KINDS[(n + 1) % 2] if n % wrong == 0 else truth,
            at=datetime(2026, 11, 27, tzinfo=UTC),
            prompt_tokens=20,
            completion_tokens=1,
            usd=0.0001,
        )


@pytest.fixture
def folder(home: Path) -> RescueFolder:
    """An inventory of one model, whose answers are recorded."""
    found = RescueFolder(home, "openai")
    settings = {"n_epochs": 4, "batch_size": "auto", "learning_rate_multiplier": 1.8}
    job = SourceJob(
        id="ftjob-Ab1", scope="default", base="gpt-4o-mini-2024-07-18", status="succeeded",
        hyperparameters=settings, suffix="parcels", seed=42, fine_tuned_model=MODEL,
    )  # fmt: skip
    model = SourceModel(id=MODEL, scope="default", base=job.base, job_id=job.id)
    found.write(
        "inventory.json",
        Inventory(
            read_at=datetime(2026, 11, 27, tzinfo=UTC), scopes=(Scope(),), models=(model,), jobs=(job,)
        ),
    )
    found.write_lines(found.of_model(MODEL) / "recordings.jsonl", recordings())
    return found


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_recipe_says_what_carries_over_and_keeps_the_holdout_apart(
    folder: RescueFolder, tunery: Tunery, tiny_model: Path
) -> None:
    found = tunery("rescue", "recipe", "--base", tiny_model, "--json")
    assert found.code == 0, found.err
    recipe = found.json["recipe"]
    assert (recipe["owner"], recipe["recorded"], recipe["measures"]) == (120, 0, "truth")
    text = Path(recipe["path"]).read_text()
    assert "learning_rate_multiplier 1.8: not carried over" in text
    loaded = load_recipe(Path(recipe["path"]), ())
    assert (loaded.name, loaded.train.epochs, loaded.train.seed) == ("parcels", 4.0, 42)
    assert [(rule.no_worse_than, rule.within) for rule in loaded.gate.rules] == [("old", 0.02)]
    place = Path(recipe["path"]).parent
    held = {row["messages"][0]["content"] for row in rows(place / "holdout.jsonl")}
    trained = {row["messages"][0]["content"] for row in rows(place / "train.jsonl")}
    assert len(held) == 40
    assert not held & trained
    assert {row["messages"][-1]["content"] for row in rows(place / "old-answers.jsonl")} == held


def test_old_answers_of_conversations_that_end_alike_are_their_own(
    folder: RescueFolder, tunery: Tunery, tiny_model: Path
) -> None:
    every = [
        each.with_(
            messages=(
                *each.messages,
                {"role": "assistant", "content": "Sure?"},
                {"role": "user", "content": word},
            )
        )
        for each, word in zip(recordings(), ["Yes", "yes!", " yes"] * 60, strict=False)
    ]
    folder.write_lines(folder.of_model(MODEL) / "recordings.jsonl", every)
    assert tunery("rescue", "recipe", "--base", tiny_model).code == 0
    place = folder.of_model(MODEL)
    given = GivenAnswers(place / "old-answers.jsonl")
    held = [each for each in every if each.portion == "holdout"]
    asked = [Message(role=turn["role"], content=turn["content"]) for each in held for turn in each.messages]
    for n, each in enumerate(held):
        row = example("x", "?").with_(
            messages=(*asked[3 * n : 3 * n + 3], Message(role="assistant", content="?"))
        )
        assert given.of(row) == each.answer


def test_rows_without_truth_are_judged_by_agreement_and_trained_on_what_was_recorded(
    folder: RescueFolder, tunery: Tunery, tiny_model: Path
) -> None:
    folder.write_lines(folder.of_model(MODEL) / "recordings.jsonl", recordings(truths=False))
    found = tunery("rescue", "recipe", "--base", tiny_model, "--json").json["recipe"]
    assert (found["owner"], found["recorded"], found["measures"]) == (0, 120, "agreement")
    assert yaml.safe_load(Path(found["path"]).read_text())["gate"]["rules"] == [
        {"metric": "exact_match", "at_least": 0.98, "ci": True}
    ]
    wrong = rows(Path(found["path"]).parent / "train.jsonl")[0]
    assert wrong["messages"][-1] == {"role": "assistant", "content": "blue"}  # as the old model answered


def test_owner_s_rows_train_although_they_were_never_recorded(
    folder: RescueFolder, tunery: Tunery, tiny_model: Path
) -> None:
    place = folder.of_model(MODEL)
    every = list(recordings())
    fields = set(RecordedPrompt.model_fields)
    drawn = [RecordedPrompt(**each.model_dump(include=fields)) for each in every]
    folder.write_lines(place / "prompts.jsonl", drawn)
    folder.write_lines(place / "recordings.jsonl", [r for r in every if r.portion == "holdout"])
    found = tunery("rescue", "recipe", "--base", tiny_model, "--json").json["recipe"]
    assert (found["owner"], found["recorded"], found["rows"]["holdout"]) == (120, 0, 40)
    refused = tunery("rescue", "recipe", "--base", tiny_model, "--train-on", "recorded")
    assert refused.code == 2
    assert "0 rows to train on" in refused.err


def calling(*, mixed: bool = False) -> Iterator[Recording]:
    """Yield recordings of a model that looks up parcels: each so-many-th call is of another one."""
    tools = ({"type": "function", "function": {"name": "find"}},)
    for n, one in enumerate(recordings(truths=False, train=16, held=20)):
        # Arguments are the same in another order; the old model looks up another parcel each tenth time.
        wanted = f'{{"parcel":{n},"place":"{KINDS[n % 2]}"}}'
        called = f'{{"place": "{KINDS[n % 2]}", "parcel": {n if n % 10 else n + 1}}}'
        call = {"id": f"call_{n}", "type": "function", "function": {"name": "find", "arguments": called}}
        says = mixed and n % 4 == 1
        yield one.with_(
            answer="Which parcel?" if says else "",
            tool_calls=() if says else (call,),
            finish="stop" if says else "tool_calls",
            tools=tools,
            truth="Which parcel?"
            if says
            else f'<tool_call>{{"name":"find","arguments":{wanted}}}</tool_call>',
        )


@pytest.mark.parametrize(("mixed", "metrics"), [(False, ["tool_call"]), (True, ["tool_call", "token_f1"])])
def test_recorded_calls_train_and_are_compared_by_name_and_arguments(
    folder: RescueFolder, tunery: Tunery, tiny_model: Path, *, mixed: bool, metrics: list[str]
) -> None:
    folder.write_lines(folder.of_model(MODEL) / "recordings.jsonl", calling(mixed=mixed))
    found = tunery("rescue", "recipe", "--base", tiny_model, "--train-on", "recorded", "--json")
    assert found.code == 0, found.err
    recipe = load_recipe(Path(found.json["recipe"]["path"]), ())
    assert [rule.metric for rule in recipe.gate.rules] == metrics
    trained = rows(Path(found.json["recipe"]["path"]).parent / "train.jsonl")
    assert len(trained) == 16
    assert json.loads(trained[0]["messages"][-1]["tool_calls"][0]["function"]["arguments"]) == {
        "place": "red",
        "parcel": 1,
    }
    assert trained[0]["tools"][0]["function"]["name"] == "find"
    if mixed:
        return
    fast = [
        "train.epochs=1", "train.smoke=false", "train.adapter=none", "evaluate.max_new_tokens=1",
        "evaluate.baseline.few_shot=false", "evaluate.baseline.zero_shot=false", "evaluate.suites_off=calls",
    ]  # fmt: skip
    proof = tunery("rescue", "run", MODEL, *fast, "--json").json["proof"]
    # Two of twenty call for another parcel.
    assert {arm["arm"]: arm["value"] for arm in proof["arms"]}["old"].startswith("90.0 %")


def test_rows_that_no_dataset_takes_are_left_out_and_counted(
    folder: RescueFolder, tunery: Tunery, tiny_model: Path
) -> None:
    image = ({"role": "user", "content": ({"type": "image_url", "image_url": {"url": "data:,"}},)},)
    bad = [one.with_(messages=image) if n < 5 else one for n, one in enumerate(recordings())]
    broken = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{"}}
    bad[7] = bad[7].with_(tool_calls=(broken,), truth=None)
    folder.write_lines(folder.of_model(MODEL) / "recordings.jsonl", bad)
    found = tunery("rescue", "recipe", "--base", tiny_model, "--json")
    assert found.code == 0, found.err
    reasons = found.json["recipe"]["reasons"]
    assert "5 rows left out: images, sound or turns that cannot be trained on here." in reasons
    assert "1 recording left out: empty, cut short, or a call that is no JSON." in reasons
    assert found.json["recipe"]["rows"]["train"] == 114


def test_what_a_source_says_stays_in_the_comment(
    folder: RescueFolder, tunery: Tunery, tiny_model: Path
) -> None:
    inventory = folder.inventory()
    job = inventory.jobs[0].with_(hyperparameters={"learning_rate_multiplier": "1\nbase: /etc"})
    folder.write("inventory.json", inventory.with_(jobs=(job,)))
    found = tunery("rescue", "recipe", "--base", tiny_model, "--json").json["recipe"]
    assert load_recipe(Path(found["path"]), ()).base == str(tiny_model)


def test_successor_is_two_arms_at_the_same_source(
    folder: RescueFolder, tunery: Tunery, tiny_model: Path
) -> None:
    scope = Scope(api_key_env=None, api_key_file="/keys/one", organization="org-1", project="proj_1")
    folder.write("inventory.json", folder.inventory().with_(scopes=(scope,)))
    found = tunery("rescue", "recipe", "--base", tiny_model, "--successor", "gpt-5-mini", "--json")
    assert found.code == 0, found.err
    arms = load_recipe(Path(found.json["recipe"]["path"]), ()).evaluate.arms
    assert list(arms) == ["old", "successor", "successor-few"]
    few = arms["successor-few"]
    assert isinstance(few, EndpointArm)
    assert (few.base_url, few.model, few.shots) == ("https://api.openai.com/v1", "gpt-5-mini", 8)
    assert (few.api_key_env, few.api_key_file) == (None, "/keys/one")
    assert few.account_headers == {"OpenAI-Organization": "org-1", "OpenAI-Project": "proj_1"}


def test_base_is_a_folder_from_where_one_stands_or_of_the_home_and_is_there(
    folder: RescueFolder, tunery: Tunery, tiny_model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_model.parent)
    (home / "models").mkdir(exist_ok=True)
    (home / "models" / "mine").symlink_to(tiny_model)
    for typed in (tiny_model.name, "mine"):
        found = tunery("rescue", "recipe", "--base", typed, "--json")
        assert found.json["base"]["base"] == str(tiny_model.resolve())
    for typed in ("none-such", "org/model"):
        assert tunery("rescue", "recipe", "--base", typed).code in (2, 3)
    assert tunery("rescue", "recipe", "--base", "org/model@abc").code == 0


def test_what_a_successor_costs_is_said_before_it_is_asked(
    folder: RescueFolder, tunery: Tunery, tiny_model: Path
) -> None:
    told = tunery("rescue", "recipe", "--base", tiny_model, "--successor", "gpt-5-mini").out
    assert "asks gpt-5-mini 80 requests" in told
    text = (folder.of_model(MODEL) / "recipe.yaml").read_text()
    assert "budget_tokens" in text
    capped = ["evaluate.arms.successor.budget_tokens=5", "evaluate.arms.successor-few.budget_tokens=5"]
    assert load_recipe(folder.of_model(MODEL) / "recipe.yaml", capped).evaluate.arms


def test_too_few_recordings_are_refused(folder: RescueFolder, tunery: Tunery, tiny_model: Path) -> None:
    folder.write_lines(folder.of_model(MODEL) / "recordings.jsonl", recordings(train=20, held=3))
    refused = tunery("rescue", "recipe", "--base", tiny_model)
    assert refused.code == 2
    assert "tunery rescue record" in refused.err
    assert tunery("rescue", "run").code == 3  # no recipe yet


def test_run_shows_row_by_row_that_ours_is_no_worse(
    folder: RescueFolder, tunery: Tunery, tiny_model: Path
) -> None:
    assert tunery("rescue", "recipe", "--base", tiny_model, "--margin", "0.1").code == 0
    quick = [
        "train.epochs=12", "train.learning_rate=0.005", "train.batch_size=8", "train.early_stopping=null",
        "train.adapter=none", "evaluate.baseline.few_shot=false",
    ]  # fmt: skip
    found = tunery("rescue", "run", MODEL, *quick, "--price-per-hour", "0.5", "--json")
    proof = found.json["proof"] if found.out else pytest.fail(found.err)
    assert (found.code, proof["status"], proof["version"]) == (0, "succeeded", "parcels@1")
    assert proof["rows"] == 40
    arms = {arm["arm"]: arm for arm in proof["arms"]}
    assert arms["old"]["usd_per_1k"] == pytest.approx(0.1)
    assert arms["tuned"]["usd_per_1k"] > 0
    assert proof["following"]["wrong"] == 4
    page = Path(found.json["page"]).read_text()
    assert "Where the old model is wrong (4 rows)" in page
    again = tunery("rescue", "run", MODEL, *quick, "--json")  # nothing is trained twice
    assert again.json["proof"]["run"] == proof["run"]


def test_following_counts_the_same_wrong_answers() -> None:
    def one(n: int, said: str, correct: bool) -> Prediction:
        return Prediction(id=str(n), prediction=said, reference="late", correct=correct)

    pairs = [
        (one(0, "late", True), one(0, "late", True)),
        (one(1, "lost", False), one(1, "Lost", False)),
        (one(2, "lost", False), one(2, "late", True)),
        (one(3, "found", False), one(3, "lost", False)),
    ]
    found = following(pairs)
    assert (found.wrong, found.same, found.right) == (3, 1, 1)
    # Of our four answers two are "lost" and none is "found": (2 + 2 + 0) / 4 / 3.
    assert found.by_chance == pytest.approx(1 / 3)


def test_model_that_learnt_too_little_is_refused(
    folder: RescueFolder, tunery: Tunery, tiny_model: Path
) -> None:
    assert tunery("rescue", "recipe", "--base", tiny_model).code == 0
    found = tunery("rescue", "run", "train.epochs=1", "evaluate.baseline.few_shot=false", "--json")
    assert (found.code, found.json["proof"]["status"], found.json["proof"]["version"]) == (5, "refused", None)
    page = Path(found.json["page"]).read_text()
    assert "## Lost" in page
    assert "must be ruled out" in page  # why, not only that
    lost = next(flip for flip in found.json["proof"]["flips"] if not flip["fixed"])
    assert lost["asked"].startswith(f"{lost['reference']} ")
    assert f"`{lost['asked']}`" in page
    for step in ("canary", "ours", "alone"):
        refused = tunery("rescue", "serve", MODEL, "--to", step)
        assert refused.code == 5
        assert f"tunery registry register {found.json['proof']['run']} --override" in refused.err
