"""Every setting says what it is, once."""

from __future__ import annotations

import importlib
import pkgutil

import tunery
from tunery.core.config import Record, Settings


def subclasses(kind: type) -> set[type]:
    direct = set(kind.__subclasses__())
    return direct | {deeper for one in direct for deeper in subclasses(one)}


def load_everything() -> None:
    for module in pkgutil.walk_packages(tunery.__path__, "tunery."):
        if not module.name.endswith(("__main__", "migrations.env")):  # run by Python and by Alembic
            importlib.import_module(module.name)


def test_every_setting_has_a_docstring() -> None:
    load_everything()
    kinds = {k for k in subclasses(Settings) if k.__module__.startswith("tunery.")}
    assert len(kinds) > 10
    silent = [
        f"{k.__name__}.{name}"
        for k in kinds
        for name, field in k.model_fields.items()
        if not field.description
    ]
    assert silent == []


def test_every_setting_and_record_refuses_what_it_does_not_know() -> None:
    load_everything()
    kinds = subclasses(Settings) | subclasses(Record)
    assert [k.__name__ for k in kinds if k.model_config.get("extra") != "forbid"] == []
