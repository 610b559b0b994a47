"""What one process hands to those that join its training, and what it is to them while they train."""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from pydantic import TypeAdapter

from tunery.core.training import BaseModelInfo
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingRows
from tunery.train.section import training_methods
from tunery.train.training import Folders

_Written: TypeAlias = tuple[BaseModelInfo, TrainingRows, Folders, dict[str, Any], bool | None]


class Handed(NamedTuple):
    """A training as another process joins it."""

    base: BaseModelInfo
    rows: TrainingRows
    folders: Folders
    config: TrainConfig
    higher_is_better: bool | None
    """Of the metric that is measured at validations; None where none is."""

    def written(self) -> bytes:
        """Return it as JSON."""
        config = self.config.model_dump(mode="json")
        return _adapter().dump_json((self.base, self.rows, self.folders, config, self.higher_is_better))

    @classmethod
    def read(cls, content: bytes) -> Handed:
        """Return what :meth:`written` gave."""
        base, rows, folders, settings, better = _adapter().validate_json(content)
        config = training_methods()[settings["method"]].config.model_validate(settings)
        return cls(base, rows, folders, config, better)


def hide_launcher() -> None:
    """Have the Trainer take this process for one that trains by itself, which it is to it."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)
    # It would tell how to have it divide batches; it is not to.
    logging.getLogger("transformers.training_args").setLevel(logging.ERROR)


def is_broken(error: BaseException) -> bool:
    """Tell whether an exchange between ranks failed because the other side is gone."""
    text = str(error)
    signs = ("closed by peer", "Connection reset", "Connection refused", "gloo", "NCCL", "Broken pipe")
    return any(sign in text for sign in signs)


@cache
def _adapter() -> TypeAdapter[_Written]:
    return TypeAdapter(_Written)
