"""One reading of every ``device`` setting, on machines with no GPU, with one and with two."""

from __future__ import annotations

import pytest
import torch

from tunery.core.errors import ConfigError
from tunery.model.device import choose_device, choose_training_device
from tunery.serve.engines.embedded.settings import EmbeddedSettings
from tunery.train.config import TrainConfig

REFUSED = None


@pytest.fixture(params=[0, 1, 2], ids=lambda count: f"{count}-gpus")
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    count: int = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    return count


@pytest.mark.parametrize(
    ("name", "to_serve", "to_train"),
    [  # with no GPU, with one, with two
        ("auto", ("cpu", "cuda", "cuda"), ("cpu", "cuda", "cuda")),
        ("cpu", ("cpu", "cpu", "cpu"), ("cpu", "cpu", "cpu")),
        ("cuda", (REFUSED, "cuda", "cuda"), (REFUSED, "cuda", "cuda")),
        ("cuda:0", (REFUSED, "cuda:0", "cuda:0"), (REFUSED, "cuda:0", "cuda:0")),
        ("cuda:1", (REFUSED, REFUSED, "cuda:1"), (REFUSED, REFUSED, REFUSED)),
        ("abacus", (REFUSED, REFUSED, REFUSED), (REFUSED, REFUSED, REFUSED)),
        ("", (REFUSED, REFUSED, REFUSED), (REFUSED, REFUSED, REFUSED)),
        ("cuda:x", (REFUSED, REFUSED, REFUSED), (REFUSED, REFUSED, REFUSED)),
    ],
)
def test_a_name_means_one_device_for_serving_and_for_training(
    gpus: int, name: str, to_serve: tuple[str | None, ...], to_train: tuple[str | None, ...]
) -> None:
    for choose, expected in ((choose_device, to_serve[gpus]), (choose_training_device, to_train[gpus])):
        if expected is REFUSED:
            with pytest.raises(ConfigError, match="device"):
                choose(name)
        else:
            assert choose(name) == torch.device(expected)


def test_errors_say_what_to_write_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"'abacus' is not a device; write auto, cpu, cuda or cuda:1"):
        choose_device("abacus")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA GPU is visible") as absent:
        choose_device("cuda:1")
    assert absent.value.hint == "device: auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="this process sees 2 GPU"):
        choose_device("cuda:2")
    with pytest.raises(ConfigError, match="first GPU it sees") as second:
        choose_training_device("cuda:1")
    assert second.value.hint == "CUDA_VISIBLE_DEVICES=1 tunery run …"


def test_what_the_settings_document_is_what_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "cuda:1" in str(EmbeddedSettings.model_fields["device"].description)
    assert choose_device(EmbeddedSettings(device="cuda:1").device).index == 1
    assert "cuda:1" not in str(TrainConfig.model_fields["device"].description)
