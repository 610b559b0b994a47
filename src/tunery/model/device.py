"""Where to compute: the one reading of every ``device`` setting."""

from __future__ import annotations

import torch

from tunery.core.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Return the device that a setting names.

    Args:
        name: ``auto`` (the first CUDA GPU where there is one, else the CPU), ``cpu``, ``cuda``, or ``cuda:1``
            for the second GPU that this process sees.

    Raises:
        ConfigError: It is no device, or not one of this machine's.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"device {name!r} is not a device; write auto, cpu, cuda or cuda:1", param="device"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device {name}: no CUDA GPU is visible to this PyTorch ({torch.__version__})",
            hint="device: auto",
            param="device",
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name}: this process sees {torch.cuda.device_count()} GPU(s), counted from cuda:0",
            hint="nvidia-smi --list-gpus",
            param="device",
        )
    return device


def choose_training_device(name: str) -> torch.device:
    """Return the device to train on, which cannot be the second GPU: the trainer takes the first it sees.

    Raises:
        ConfigError: As :func:`choose_device`, and where another GPU than the first is named.
    """
    device = choose_device(name)
    if device.type == "cuda" and device.index:
        raise ConfigError(
            f"train.device {name}: training computes on the first GPU it sees; let it see only that one and "
            "name it cuda",
            hint=f"CUDA_VISIBLE_DEVICES={device.index} tunery run …",
            param="device",
        )
    return device
