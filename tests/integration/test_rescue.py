"""A rescue's first half against a double of its source: what is there is kept, and nothing there changed."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.openai_source import CSV, KEY, OpenAISource, chat_row, serving
from tests.fixtures_cli import Called, Tunery, home, tunery
from tests.integration.live_api import BASE, Live
from tests.integration.test_api_jobs import idle, training_file
from tunery.pipeline.jobs.run import run_job
from tunery.rescue.folder import RescueFolder
from tunery.store.exclusive import exclusive

__all__ = ["home", "idle", "tunery"]

ROWS = [chat_row(f"question {n}", f"answer {n}") for n in range(12)]
AB1 = "ft:gpt-4o-mini-2024-07-18:acme::Ab1"
CD2 = "ft:gpt-4.1-mini-2025-04-14:acme::Cd2"


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAISource]:
    """An account with two fine-tuned models, the training file of one deleted."""
    monkeypatch.setenv("SOURCE_KEY", KEY)
    account = OpenAISource()
    account.add_fine_tune("Ab1", ROWS, validation=ROWS[:3], shutdown_date="2027-01-14")
    account.add_fine_tune("Cd2", ROWS, base="gpt-4.1-mini-2025-04-14")
    account.delete_file("file-trainCd2")
    with serving(account):
        yield account
    assert account.writes == set()


def scope(source: OpenAISource, **more: str) -> str:
    """Return what is typed behind ``--scope``."""
    fields = {"base-url": source.url, "key-env": "SOURCE_KEY", **more}
    return ",".join(f"{name.replace('_', '-')}={value}" for name, value in fields.items() if value)


@pytest.fixture
def rescued(source: OpenAISource, tunery: Tunery, home: Path) -> RescueFolder:
    """The folder after an inventory."""
    taken = tunery("rescue", "inventory", "--scope", scope(source))
    assert taken.code == 0, taken.err
    return RescueFolder(home, "openai")


def test_inventory_says_what_there_is_and_what_each_model_needs(source: OpenAISource, tunery: Tunery) -> None:
    found = tunery("rescue", "inventory", "--scope", scope(source), "--json")
    assert found.code == 0, found.err
    inventory = found.json["inventory"]
    assert [job["id"] for job in inventory["jobs"]] == ["ftjob-Cd2", "ftjob-Ab1"]
    assert {file["id"]: file["state"] for file in inventory["files"]} == {
        "file-trainAb1": "listed", "file-validAb1": "listed", "file-resultAb1": "listed",
        "file-resultCd2": "listed", "file-trainCd2": "gone",
    }  # fmt: skip
    models = {model["id"]: model for model in inventory["models"]}
    assert models[AB1]["shutdown"] == {"on": "2027-01-14", "source": "api"}
    assert "as dev.to" in models[CD2]["shutdown"]["source"]
    assert set(models) == {AB1, CD2}  # neither bases nor checkpoints
    job = inventory["jobs"][1]
    assert (job["events"], len(job["checkpoints"]), job["hyperparameters"]["n_epochs"]) == (36, 2, 3)
    needs = {each["model"]: " ".join(each["needs"]) for each in found.json["outlook"]}
    assert "tunery rescue fetch" in needs[AB1]
    assert "deleted at the source" in needs[CD2]
    page = Path(found.json["page"]).read_text()
    assert "reported, check" in page
    assert "last new fine-tuning job" in tunery("rescue", "inventory").out


def test_second_inventory_needs_no_scope_and_reads_no_final_job_again(
    rescued: RescueFolder, source: OpenAISource, tunery: Tunery
) -> None:
    source.requests.clear()
    source.jobs[0]["status"] = "running"
    assert tunery("rescue", "inventory").code == 0
    details = {path for _, path in source.requests if "ftjob-" in path}
    assert details == {f"/v1/fine_tuning/jobs/ftjob-Cd2/{kind}" for kind in ("events", "checkpoints")}


def test_every_page_is_read(source: OpenAISource, tunery: Tunery) -> None:
    source.trouble.page = 3
    for n in range(8):
        source.add_fine_tune(f"page{n}", ROWS[:1])
    found = tunery("rescue", "inventory", "--scope", scope(source), "--json").json["inventory"]
    assert len(found["jobs"]) == 10
    assert len(found["files"]) == len(source.files) + 1
    assert {job["events"] for job in found["jobs"]} == {36}
    source.trouble.limit_most = 50  # a source that takes no more a page is asked without
    again = tunery("rescue", "inventory", "--name", "less", "--scope", scope(source), "--json")
    assert len(again.json["inventory"]["jobs"]) == 10


def test_several_scopes_are_read_as_who_they_are_and_each_thing_stands_once(
    source: OpenAISource, tunery: Tunery
) -> None:
    one = scope(source, name="one", organization="org-1", project="proj_1")
    found = tunery("rescue", "inventory", "--scope", one, "--scope", scope(source, name="two"), "--json")
    assert {job["scope"] for job in found.json["inventory"]["jobs"]} == {"one"}
    sent = {(h.get("openai-organization"), h.get("openai-project")) for h in source.headers}
    assert sent == {("org-1", "proj_1"), (None, None)}
    assert not {name for headers in source.headers for name in headers if name.startswith("x-")}
    assert len(tunery("rescue", "inventory", "--json").json["inventory"]["scopes"]) == 2


def test_scope_s_name_means_one_account(source: OpenAISource, tunery: Tunery, home: Path) -> None:
    assert tunery("rescue", "inventory", "--scope", scope(source)).code == 0
    before = RescueFolder(home, "openai").inventory()
    refused = tunery("rescue", "inventory", "--scope", scope(source, project="proj_2"))
    assert refused.code == 4
    assert "would look as if it were gone" in refused.err
    assert RescueFolder(home, "openai").inventory() == before
    other = scope(source, name="other", project="proj_2")
    assert tunery("rescue", "inventory", "--scope", scope(source), "--scope", other).code == 0


def test_model_whose_scope_was_left_out_says_which(source: OpenAISource, tunery: Tunery) -> None:
    assert tunery("rescue", "inventory", "--scope", scope(source, name="one")).code == 0
    source.models, source.jobs, source.files = [], [], []
    assert tunery("rescue", "inventory", "--scope", scope(source, name="two")).code == 0
    for step in ("record", "recipe", "serve"):
        refused = tunery("rescue", step, AB1)
        assert refused.code == 3
        assert "--scope name=one" in refused.err


@pytest.mark.parametrize("typed", [f"key-env={KEY}", f"{KEY}", f"key={KEY}", f"key_env={KEY}"])
def test_key_in_place_of_its_name_is_not_repeated(tunery: Tunery, typed: str) -> None:
    refused = tunery("rescue", "inventory", "--scope", typed)
    assert refused.code == 2
    assert KEY not in refused.err + refused.out


def test_wait_for_a_source_that_fails_is_told(source: OpenAISource, tunery: Tunery) -> None:
    source.trouble.fail["^/v1/models"] = [500, 500]
    found = tunery("rescue", "inventory", "--scope", scope(source))
    assert found.code == 0
    assert found.err.count("trying again in") == 1


def test_scope_whose_key_is_refused_is_a_problem_beside_one_whose_is_not(
    source: OpenAISource, tunery: Tunery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLD_KEY", "sk-old")
    old = scope(source, name="old", key_env="OLD_KEY")
    found = tunery("rescue", "inventory", "--scope", old, "--scope", scope(source), "--json")
    assert found.code == 0
    assert sum("the key of scope old is refused" in p for p in found.json["inventory"]["problems"]) == 3
    assert len(found.json["inventory"]["jobs"]) == 2


def test_refused_key_is_an_error_that_does_not_repeat_it(source: OpenAISource, tunery: Tunery) -> None:
    source.trouble.expired = True
    refused = tunery("rescue", "inventory", "--scope", scope(source))
    assert refused.code == 2
    assert "check the key in SOURCE_KEY" in refused.err
    assert KEY not in refused.err


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("key-env=NOT_SET", "NOT_SET is not set"),
        (KEY, "a part without '='"),
        ("kee-env=X", "did you mean 'key-env'"),
        ("base-url=http://user:pw@host/v1", "must hold neither user"),
        ("name=../x", "name"),
    ],
)
def test_scope_that_is_none_is_refused(typed: str, says: str, tunery: Tunery) -> None:
    refused = tunery("rescue", "inventory", "--scope", typed)
    assert refused.code == 2
    assert says in refused.err
    assert KEY not in refused.err


def test_key_file_that_others_may_read_is_refused(
    source: OpenAISource, tunery: Tunery, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o644)
    typed = ("rescue", "inventory", "--scope", f"base-url={source.url},key-file={file}")
    refused = tunery(*typed)
    assert refused.code == 2
    assert f"chmod 600 {file}" in refused.err
    assert source.requests == []
    file.chmod(0o600)
    assert tunery(*typed).code == 0


def test_faults_on_the_way_are_tried_again(source: OpenAISource, tunery: Tunery) -> None:
    source.trouble.throttle_every = 3
    source.trouble.fail = {"events": [500, 503], "files$": [502]}
    found = tunery("rescue", "inventory", "--scope", scope(source), "--json")
    assert found.json["inventory"]["problems"] == []
    assert {job["events"] for job in found.json["inventory"]["jobs"]} == {36}


def test_what_the_key_may_not_read_is_a_problem_and_the_rest_is_kept(
    source: OpenAISource, tunery: Tunery
) -> None:
    source.trouble.forbidden = ("models", "fine_tuning/jobs/ftjob-Ab1/events")
    found = tunery("rescue", "inventory", "--scope", scope(source), "--json")
    assert found.code == 0
    problems = " ".join(found.json["inventory"]["problems"])
    assert "models unread" in problems
    assert "events of ftjob-Ab1 unread" in problems
    assert {model["answers"] for model in found.json["inventory"]["models"]} == {None}
    source.trouble.forbidden = ()
    again = tunery("rescue", "inventory", "--json").json["inventory"]
    assert again["problems"] == []
    assert {job["events"] for job in again["jobs"]} == {36}


def test_scope_under_another_name_is_fetched_from(
    rescued: RescueFolder, source: OpenAISource, tunery: Tunery
) -> None:
    assert tunery("rescue", "inventory", "--scope", scope(source, name="renamed")).code == 0
    found = tunery("rescue", "fetch", "--json")
    assert found.code == 0, found.out
    assert {job.scope for job in rescued.inventory().jobs} == {"renamed"}


def test_address_without_its_version_is_an_error_that_says_so(source: OpenAISource, tunery: Tunery) -> None:
    source.trouble.fail = {".": [404] * 3}
    refused = tunery("rescue", "inventory", "--scope", scope(source))
    assert refused.code == 3
    assert "ends with its version" in refused.err


def test_malformed_items_cost_themselves_alone(source: OpenAISource, tunery: Tunery, home: Path) -> None:
    job = source.jobs[0]
    source.jobs += [
        {"id": "../../escaped"}, None, {"id": "ftjob-bare"},
        {**job, "id": "ftjob-odd", "model": 7, "method": [], "hyperparameters": "auto", "created_at": 1e300,
         "result_files": ["../x", None, "file-resultAb1"], "training_file": "../../etc/passwd",
         "fine_tuned_model": "ft:a\x1b[31m:b"},
    ]  # fmt: skip
    source.files += [{"id": "file-x", "bytes": -4, "filename": "../../../etc/passwd\n| x"}, "file", {"id": 5}]
    source.models += [
        None,
        {"object": "model"},
        {"id": "ft:gpt-4o", "created": "yesterday", "shutdown_date": 3},
    ]
    source.checkpoints["ftjob-bare"] = [
        {"id": "c"},
        3,
        {"fine_tuned_model_checkpoint": "c", "metrics": {"a": "b"}},
    ]
    deep: Any = {}
    for _ in range(400):
        deep = {"in": deep}
    huge = {
        "n_epochs": deep,
        "batch_size": 10**4000,
        "beta": float("nan"),
        "learning_rate_multiplier": "\ud800",
    }
    source.jobs.append({"id": "ftjob-deep", "hyperparameters": huge, "seed": 10**400, "finished_at": 10**400})
    found = tunery("rescue", "inventory", "--scope", scope(source), "--json")
    assert found.code == 0, found.err
    inventory = found.json["inventory"]
    assert len(inventory["problems"]) == 5
    known = {f"ftjob-{name}" for name in ("Ab1", "Cd2", "bare", "odd", "deep")}
    assert {job["id"] for job in inventory["jobs"]} == known
    odd = next(job for job in inventory["jobs"] if job["id"] == "ftjob-odd")
    assert (odd["training_file"], odd["result_files"], odd["base"]) == (None, ["file-resultAb1"], "unknown")
    assert not list(home.parent.rglob("*escaped*"))
    assert tunery("rescue", "fetch").code == 6  # the job that cannot be kept


def test_listing_that_never_ends_is_left(source: OpenAISource, tunery: Tunery) -> None:
    source.trouble.page = 1
    source.files.insert(2, source.files[0])  # its cursor leads back to the beginning
    found = tunery("rescue", "inventory", "--scope", scope(source), "--json")
    assert any("never comes to an end" in problem for problem in found.json["inventory"]["problems"])


def test_what_the_source_has_switched_off_stays_known(
    rescued: RescueFolder, source: OpenAISource, tunery: Tunery
) -> None:
    assert tunery("rescue", "fetch").code == 0
    source.models, source.jobs, source.files = [], [], []
    found = tunery("rescue", "inventory", "--json").json["inventory"]
    assert {model["id"]: model["answers"] for model in found["models"]} == {AB1: False, CD2: False}
    assert len(found["jobs"]) == 2
    states = {file["id"]: file["state"] for file in found["files"]}
    assert states["file-trainAb1"] == "fetched"
    assert states["file-trainCd2"] == "gone"


def test_fetch_brings_every_file_once_with_its_checksum(
    rescued: RescueFolder, source: OpenAISource, tunery: Tunery
) -> None:
    source.trouble.base64_results = True
    found = tunery("rescue", "fetch", "--json")
    assert found.code == 0, found.err
    files = {file["id"]: file for file in found.json["fetched"]["files"]}
    train = rescued.file("file-trainAb1")
    assert train.read_bytes() == source.contents["file-trainAb1"]
    assert files["file-trainAb1"]["sha256"] == hashlib.sha256(train.read_bytes()).hexdigest()
    assert rescued.root / files["file-trainAb1"]["path"] == train
    result = files["file-resultAb1"]
    assert (result["form"], result["metrics"]["train_loss"]) == ("base64", 0.5)
    assert rescued.file("file-resultAb1").read_bytes() == base64.b64encode(CSV.encode())  # as it came
    (gone,) = found.json["fetched"]["gone"]
    assert "file-trainCd2" in gone
    assert "tunery rescue record" in gone
    assert {path.stat().st_mode & 0o777 for path in rescued.root.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in rescued.root.rglob("*") if path.is_dir()} == {0o700}
    source.requests.clear()
    assert tunery("rescue", "fetch", "--json").json["fetched"]["downloaded"] == 0
    assert source.requests == []
    assert rescued.inventory().files == tuple(
        file.with_(state=files[file.id]["state"]) for file in rescued.inventory().files
    )


def test_faults_of_a_fetch_are_tried_again_and_a_refused_key_ends_it(
    rescued: RescueFolder, source: OpenAISource, tunery: Tunery
) -> None:
    source.trouble.expired = True
    refused = tunery("rescue", "fetch")
    assert refused.code == 2
    assert KEY not in refused.err
    source.trouble.expired = False
    source.trouble.throttle_every = 3
    source.trouble.fail = {"content": [500, 503]}
    assert tunery("rescue", "fetch").code == 0


def test_damaged_file_is_fetched_anew(rescued: RescueFolder, source: OpenAISource, tunery: Tunery) -> None:
    tunery("rescue", "fetch")
    rescued.file("file-trainAb1").write_bytes(b"else")
    again = tunery("rescue", "fetch")
    assert again.code == 6
    assert "was not as it had been fetched" in again.out
    assert rescued.file("file-trainAb1").read_bytes() == source.contents["file-trainAb1"]
    assert tunery("rescue", "fetch").code == 0


def test_only_one_models_files_are_fetched(rescued: RescueFolder, tunery: Tunery) -> None:
    found = tunery("rescue", "fetch", "--only", CD2, "--json").json["fetched"]
    assert [file["id"] for file in found["files"]] == ["file-resultCd2", "file-trainCd2"]
    assert tunery("rescue", "fetch", "--only", "ft:none").code == 3


def test_file_deleted_since_the_inventory_is_gone(
    rescued: RescueFolder, source: OpenAISource, tunery: Tunery
) -> None:
    source.delete_file("file-validAb1")
    found = tunery("rescue", "fetch", "--json")
    assert found.code == 0
    assert len(found.json["fetched"]["gone"]) == 2
    assert next(f for f in rescued.inventory().files if f.id == "file-validAb1").state == "gone"


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_connection_goes_on_where_it_broke(
    ranges: bool,
    rescued: RescueFolder,
    source: OpenAISource,
    tunery: Tunery,
) -> None:
    huge = chat_row("x" * 3_000_000, "y")  # one line, several packets
    source.add_fine_tune("Huge", [huge])
    source.trouble.cut_after = {"file-trainHuge": 1_000_000}
    source.trouble.no_ranges = not ranges
    tunery("rescue", "inventory")
    found = tunery("rescue", "fetch", "--json")
    assert found.code == 0, found.err
    assert rescued.file("file-trainHuge").read_bytes() == source.contents["file-trainHuge"]
    new = found.json["fetched"]["downloaded"] - 3_000_000
    assert (new < 100_000) if ranges else (900_000 < new < 1_100_000)


def test_part_that_is_of_no_use_is_begun_anew(
    rescued: RescueFolder, source: OpenAISource, tunery: Tunery
) -> None:
    rescued.make(rescued.root / "files")
    (rescued.root / "files" / ".file-trainAb1.partial").write_bytes(b"x" * 99_999)
    assert tunery("rescue", "fetch").code == 0
    assert rescued.file("file-trainAb1").read_bytes() == source.contents["file-trainAb1"]


def test_key_is_nowhere_on_disk_and_in_no_output(
    source: OpenAISource, tunery: Tunery, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    source.trouble.forbidden = ("models",)
    calls: list[Called] = [
        tunery("rescue", "inventory", "--scope", scope(source)),
        tunery("rescue", "fetch", "--json"),
    ]
    source.trouble.expired = True  # whose message repeats the key
    calls += [tunery("rescue", "inventory", "--json")]
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"SOURCE_KEY" in written
    assert KEY.encode() not in written
    assert KEY not in caplog.text + "".join(call.out + call.err for call in calls)


def _killed(arguments: list[str], home: Path, when: Callable[[], bool]) -> None:
    """Run a command and kill -9 it once something is the case."""
    env = {**os.environ, "TUNERY_HOME": str(home), "SOURCE_KEY": KEY}
    with subprocess.Popen([sys.executable, "-m", "tunery", *arguments], env=env) as process:
        deadline = time.monotonic() + 60
        while not when():
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)


def test_killed_inventory_continues(source: OpenAISource, tunery: Tunery, home: Path) -> None:
    for n in range(30):
        source.add_fine_tune(f"k{n:02}", ROWS[:1])
    source.trouble.latency_s = 0.1
    folder = RescueFolder(home, "openai")
    typed = ["rescue", "inventory", "--scope", scope(source)]
    _killed(typed, home, lambda: len(list(folder.root.glob("jobs/*.json"))) >= 8)
    kept = {path.stem for path in folder.root.glob("jobs/*.json")}
    assert not folder.is_there
    source.requests.clear()
    source.trouble.latency_s = 0
    assert tunery(*typed).code == 0
    again = {path.split("/")[4] for _, path in source.requests if "ftjob-" in path}
    assert len(again | kept) == 32
    assert again & kept == set()


def test_killed_fetch_continues_without_what_is_here(
    rescued: RescueFolder, source: OpenAISource, tunery: Tunery, home: Path
) -> None:
    source.add_fine_tune("Huge", [chat_row("x" * 2_000_000, "y")])
    tunery("rescue", "inventory")
    source.trouble.slow_bytes_s = 0.05
    partial = rescued.root / "files" / ".file-trainHuge.partial"
    whole = [rescued.file(id) for id in ("file-trainAb1", "file-resultAb1")]
    _killed(
        ["rescue", "fetch"], home,
        lambda: all(p.is_file() for p in whole) and partial.is_file() and partial.stat().st_size > 300_000,
    )  # fmt: skip
    assert not rescued.file("file-trainHuge").exists()
    source.trouble.slow_bytes_s = 0
    source.requests.clear()
    found = tunery("rescue", "fetch", "--json")
    assert found.code == 0, found.err
    assert rescued.file("file-trainHuge").read_bytes() == source.contents["file-trainHuge"]
    assert found.json["fetched"]["downloaded"] < 1_800_000
    assert not [path for _, path in source.requests if "Ab1/content" in path]


def test_our_own_server_is_a_source_too(
    idle: Live, tunery: Tunery, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    client = idle.client()
    uploaded = training_file(client, 14)
    job = client.fine_tuning.jobs.create(
        model=BASE, training_file=uploaded, hyperparameters={"n_epochs": 1}, suffix="mine"
    )
    assert idle.workspace.jobs.claim("here", 60) is not None
    assert run_job(idle.workspace, job.id, "here", lambda: False)
    model = f"ft:{BASE}:tunery:mine:{job.id.removeprefix('ftjob-')}"
    monkeypatch.setenv("OWN_KEY", idle.secret)
    typed = f"base-url={idle.url}/v1,key-env=OWN_KEY"
    found = tunery("rescue", "inventory", "--name", "own", "--scope", typed, "--json").json["inventory"]
    assert found["problems"] == []
    (seen,) = found["jobs"]
    assert (seen["status"], seen["suffix"], seen["training_file"]) == ("succeeded", "mine", uploaded)
    assert seen["events"] > 5
    assert [(each["id"], each["base"], each["answers"]) for each in found["models"]] == [(model, BASE, True)]
    fetched = tunery("rescue", "fetch", "--name", "own", "--json")
    assert fetched.code == 0, fetched.err
    folder = RescueFolder(home, "own")
    assert folder.file(uploaded).read_bytes() == client.files.content(uploaded).read()
    (result,) = [file for file in fetched.json["fetched"]["files"] if file["purpose"] == "fine-tune-results"]
    assert result["form"] == "csv"
    assert result["metrics"]["train_loss"] > 0


def test_azures_objects_are_understood(source: OpenAISource, tunery: Tunery) -> None:
    tuned = "gpt-4o-mini-2024-07-18.ft-0a1b2c-acme"
    source.files, source.events, source.checkpoints = [], {}, {}
    source.models = [
        {"id": tuned, "object": "model", "status": "succeeded", "deprecation": {"inference": 1_798_761_600}},
        {"id": "gpt-4o-mini-2024-07-18", "object": "model", "capabilities": {"fine_tune": True}},
    ]
    source.jobs = [
        {
            "id": "ftjob-0a1b", "object": "fine_tuning.job", "status": "succeeded", "created_at": 1_760_000,
            "model": "gpt-4o-mini-2024-07-18", "fine_tuned_model": tuned, "training_file": "file-none",
            "hyperparameters": {"n_epochs": 2, "batch_size": -1}, "trainingType": "Standard",
        }
    ]  # fmt: skip
    found = tunery("rescue", "inventory", "--scope", scope(source), "--json").json["inventory"]
    (model,) = found["models"]
    assert (model["id"], model["base"], model["answers"]) == (tuned, "gpt-4o-mini-2024-07-18", True)
    assert model["shutdown"] == {"on": "2027-01-01", "source": "api"}
    assert found["problems"] == []


def test_two_at_once_do_not_write_to_one_rescue(rescued: RescueFolder, tunery: Tunery, home: Path) -> None:
    with exclusive(home, "rescue-openai"):
        for step in ("fetch", "inventory"):
            refused = tunery("rescue", step)
            assert refused.code == 4
            assert "wait for its end" in refused.err
    assert tunery("rescue", "fetch").code == 0


def test_key_that_would_cross_the_network_in_the_clear_is_warned_of(
    source: OpenAISource, tunery: Tunery
) -> None:
    # The scope's proxy is where the request ends, so that nothing leaves this machine.
    proxy = source.url.removesuffix("/v1")
    typed = f"base-url=http://gateway.example/v1,key-env=SOURCE_KEY,proxy={proxy}"
    assert "in the clear" in tunery("rescue", "inventory", "--scope", typed).err
