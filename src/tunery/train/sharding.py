"""FSDP: the weights of a base divided among ranks, each layer whole only while it computes.

What is trained beside a frozen base is small and whole on every rank. Where the base itself is trained, its
weights, their gradients and the optimizer's state are divided too. A checkpoint holds whole tensors either
way, as one process writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from tunery.core.errors import ConfigError, DamagedError
from tunery.train.config import TrainConfig
from tunery.train.methods.method import WholeStep
from tunery.train.section import method_of


class Whole(NamedTuple):
    """What ranks hold together, as one process has it; empty on every rank but the first."""

    weights: Mapping[str, torch.Tensor]
    """On the CPU; tensors that are one parameter are one."""
    optimizer: Mapping[str, Any]
    """As the optimizer's ``state_dict``."""


def require_shardable(config: TrainConfig) -> None:
    """Refuse settings under which ranks cannot compute in step.

    Raises:
        ConfigError: Says which one and what to set instead.
    """
    without = "train.sharding=none"
    if isinstance(method_of(config).objective(config), WholeStep):
        raise ConfigError(
            f"train.sharding is fsdp and train.method {config.method}, which measures a whole step first",
            hint=f"{without}, or train.method=dpo",
            param="train.sharding",
        )
    if getattr(config, "neftune_alpha", 0):
        raise ConfigError(
            "train.sharding is fsdp and train.neftune_alpha is set: embeddings are whole in forwards only",
            hint=f"{without}, or train.neftune_alpha=0",
            param="train.sharding",
        )
    if config.adapter == "none" and config.generate_rows:
        raise ConfigError(
            "train.sharding is fsdp and train.generate_rows is set: no rank holds a whole model that answers",
            hint=f"{without}, or train.generate_rows=null",
            param="train.sharding",
        )


def shard(model: nn.Module, device: torch.device, ranks: int) -> None:
    """Divide a model's weights among the ranks of the default process group, which all call this.

    Its gradients become sums over ranks. What is trained beside a frozen base stays as it is.
    """
    mesh = init_device_mesh(device.type, (ranks,))
    whole = {p for p in model.parameters() if p.requires_grad} if isinstance(model, PeftModel) else set()
    for module in (*_layers(model), model):
        # The outermost one, too: the rank that writes a checkpoint divides it again, the others would not.
        fully_shard(module, mesh=mesh, ignored_params=whole, reshard_after_forward=True)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other


def is_divided(model: nn.Module) -> bool:
    """Tell whether what is trained of a model is divided among ranks."""
    return any(isinstance(p, DTensor) and p.requires_grad for p in model.parameters())


def gather(model: nn.Module, optimizer: torch.optim.Optimizer, *, keep: bool) -> Whole:
    """Return whole weights and a whole optimizer's state; every rank calls it, one keeps them."""
    known: dict[int, torch.Tensor] = {}
    weights = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in known:
            found = _whole(tensor.detach())
            known[id(tensor)] = found.cpu() if keep else found.new_empty(0)
        weights[name] = known[id(tensor)]
    state = optimizer.state_dict()
    of_each = {}
    for index, values in state["state"].items():
        wholes = {name: _whole(value) for name, value in values.items()}
        of_each[index] = wholes if keep else {}
    return Whole(weights, {**state, "state": of_each}) if keep else Whole({}, {})


def load_divided(model: nn.Module, weights: Path) -> None:
    """Give each rank its part of the whole weights of a file.

    Raises:
        DamagedError: They are of another model.
    """
    found = load_file(weights)
    known: set[int] = set()
    for name, tensor in sorted(
        model.state_dict(keep_vars=True).items(), key=lambda item: item[0] not in found
    ):
        if name in found:
            if found[name].shape != tensor.shape:
                raise DamagedError(f"{weights} holds a model of another shape than this training's")
            with torch.no_grad():
                tensor.copy_(_part(found[name].to(tensor.dtype), tensor))
        elif id(tensor) not in known:  # else it is one parameter under two names
            raise DamagedError(f"{weights} lacks {name}")
        known.add(id(tensor))


def divide_state(optimizer: torch.optim.Optimizer) -> None:
    """Leave each rank its part of an optimizer's state that was loaded whole."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(parameter, DTensor) and isinstance(value, torch.Tensor) and value.dim():
                values[name] = _part(value, parameter)


def _layers(model: nn.Module) -> Iterable[nn.Module]:
    """Return the layers that are alike: the members of the longest list of modules."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=())


def _whole(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _part(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if not isinstance(like, DTensor) or isinstance(whole, DTensor):
        return whole
    # Without a source rank nothing is sent: each takes its part of what all have.
    mesh, placements = like.device_mesh, like.placements
    return distribute_tensor(whole.to(like.device), mesh, placements, src_data_rank=None)
