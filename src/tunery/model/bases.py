"""Base models: find one by name, folder or hub id, refuse pickles, hash what is loaded."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

from tunery.core.errors import ConfigError, DamagedError, NotFoundError
from tunery.core.ids import canonical_json, sha256_text
from tunery.core.progress import Progress, Silent
from tunery.core.training import ADAPTER_CONFIG, CHAT_TEMPLATE, GENERATION_CONFIG, BaseModelInfo
from tunery.model.chat_templates import ChatTemplate, chat_template_of
from tunery.model.embedded import EMBEDDED_NAME, install_embedded
from tunery.model.tokenizer import ChatTokenizer, load_hf_tokenizer
from tunery.store.checksums import checksum, remembered_checksum
from tunery.store.whole_folder import changed_files, doom, is_complete, write_whole_folder

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
"""Weight files that would be unpickled; a folder that holds one is refused."""

_HUB_ID = re.compile(r"^(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?$")
_HASHED_SUFFIXES = frozenset({".safetensors", ".json", ".jinja", ".model", ".txt"})


def resolve_base(
    spec: str,
    models_dir: Path,
    *,
    chat_template: str | None = None,
    base_dir: Path | None = None,
    progress: Progress | None = None,
) -> BaseModelInfo:
    """Return the base model that ``spec`` names, ready on disk, checked and hashed.

    With another template than its own it is another base, in a folder of its own in ``models_dir``, whose
    weights are the same files where the disk allows it.

    Args:
        spec: As :func:`find_base`.
        models_dir: As there.
        chat_template: As :func:`tunery.model.chat_templates.chat_template_of`; the base's own when None.
        base_dir: As there; a template's path starts from it, too.
        progress: As there.

    Raises:
        NotFoundError: No such model.
        ConfigError: The folder is not a causal language model with safetensors weights and a chat
            template, or holds a pickle.
    """
    folder, name = find_base(spec, models_dir, base_dir=base_dir, progress=progress)
    if chat_template is None:
        return describe_base(folder, name=name)
    check_base_folder(folder, name=name, own_template=False)
    template = chat_template_of(chat_template, folder, base_dir=base_dir)
    if load_hf_tokenizer(folder).chat_template == template.text:
        return describe_base(folder, name=name)
    return _with_template(describe_base(folder, name=name, own_template=False), template, models_dir)


def _with_template(base: BaseModelInfo, template: ChatTemplate, models_dir: Path) -> BaseModelInfo:
    """Return the base with another chat template, in the folder that is named after both."""
    source, text = Path(base.path), template.text
    key = sha256_text(canonical_json([base.sha256, text]))[:12]
    plain = re.sub(r"[^\w.@-]+", "-", f"{base.name}-{template.name}")
    folder = models_dir / f"{plain}-{key}"
    if is_complete(folder) and changed_files(folder):
        doom(folder)
    if not is_complete(folder):
        about = {"license": base.license, "origin": base.origin}
        with write_whole_folder(folder, "models", about) as partial:
            for path in [*_hashed(source), *source.glob("LICENSE*")]:
                _link(path, partial / path.name)
            _put_template(partial, text)
    made = describe_base(folder, name=base.name)
    return made.with_(chat_template=template.name, origin_path=base.path)


def _link(source: Path, target: Path) -> None:
    """Have the same file in two folders; a copy where they lie on two disks."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _put_template(folder: Path, text: str) -> None:
    """Have a folder's tokenizer use a template, and its model stop where the template ends an answer."""
    hf = load_hf_tokenizer(folder)
    hf.chat_template = text
    end = ChatTokenizer(hf).end_of_turn
    says = _read_json(folder / "tokenizer_config.json")
    says.pop("chat_template", None)
    _write_anew(folder / "tokenizer_config.json", json.dumps(says, indent=2, ensure_ascii=False))
    _write_anew(folder / CHAT_TEMPLATE, text)
    generation = _read_json(folder / GENERATION_CONFIG)
    stops = generation.get("eos_token_id", hf.eos_token_id)
    stops = [s for s in (stops if isinstance(stops, list) else [stops]) if s is not None]
    generation["eos_token_id"] = [*stops, *([end] if end is not None and end not in stops else [])]
    _write_anew(folder / GENERATION_CONFIG, json.dumps(generation, indent=2))


def _write_anew(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # what was linked is the base's own file
    path.write_text(text, encoding="utf-8")


def find_base(
    spec: str, models_dir: Path, *, base_dir: Path | None = None, progress: Progress | None = None
) -> tuple[Path, str]:
    """Return the folder of the base model that ``spec`` names, and the model's name; no weight is read.

    Args:
        spec: ``smollm2-135m-instruct`` (ships as a package, converted once), a Hugging Face folder, or a
            hub id with its revision, ``org/model@revision``.
        models_dir: Where converted models are kept, ``TUNERY_HOME/models``.
        base_dir: What a relative folder is relative to; the current directory when None.
        progress: Told of the one-time conversion.

    Raises:
        NotFoundError: No such model.
        ConfigError: A hub id without its revision.
    """
    if spec == EMBEDDED_NAME:
        return install_embedded(models_dir, progress=progress or Silent()), EMBEDDED_NAME
    given = Path(spec).expanduser()
    folder = given if given.is_absolute() else (base_dir or Path.cwd()) / given
    if folder.is_dir():
        return folder.resolve(), folder.resolve().name
    hub = _HUB_ID.match(spec)
    if hub is None or given.is_absolute() or spec.startswith("."):
        raise NotFoundError(
            f"base {spec!r}: no such folder, and not the name of a model that ships with Tunery",
            hint=f"base: {EMBEDDED_NAME}, a folder with config.json and *.safetensors, or org/model@revision",
            param="base",
        )
    return _hub_snapshot(hub["repo"], hub["revision"]), spec


def check_base_folder(folder: Path, *, name: str, own_template: bool = True) -> None:
    """Refuse a folder that no base can be loaded from.

    Args:
        folder: Of the model.
        name: What it is called.
        own_template: Whether it must have a chat template.

    Raises:
        ConfigError: Something is missing or unsafe; all problems at once.
    """
    problems = _problems_of(folder)
    if problems:
        raise ConfigError.of_problems(
            f"base {name}",
            problems,
            hint="save it with save_pretrained(..., safe_serialization=True) into a clean folder",
        )
    if own_template and not _has_template(folder):
        raise ConfigError(
            f"base {name}: {folder} has no chat template ({CHAT_TEMPLATE})",
            hint="write chat_template: chatml (or alpaca, or the path of a Jinja file) beside the base",
        )


def describe_base(
    folder: Path, *, name: str, remember: bool = True, own_template: bool = True
) -> BaseModelInfo:
    """Check a Hugging Face folder and hash the files that define the model.

    Args:
        folder: Of the model.
        name: What it is called.
        remember: Whether checksums may come from notes beside the files, and are noted there.
        own_template: As :func:`check_base_folder`.

    Raises:
        ConfigError: Something is missing or unsafe; all problems at once.
    """
    check_base_folder(folder, name=name, own_template=own_template)
    checksums = {p.name: (remembered_checksum if remember else checksum)(p) for p in _hashed(folder)}
    about = _read_json(folder / "manifest.json").get("about", {})
    return BaseModelInfo(
        name=name,
        sha256=sha256_text(canonical_json(checksums)),
        path=str(folder),
        parameters=_count_parameters(folder),
        license=about.get("license"),
        origin=about.get("origin"),
        files=checksums,
    )


def check_base(base: BaseModelInfo) -> None:
    """Compare a base's files with what was recorded, before anything computes with them.

    Every file is read, large ones once in a process as long as nobody touches them.

    Raises:
        DamagedError: The folder is gone, or a file is not what was recorded; names each it can.
    """
    folder = Path(base.path)
    if not folder.is_dir():
        raise DamagedError(f"base {base.name}: {folder} is gone", hint=f"put {base.label} back there")
    found = {p.name: checksum(p) for p in _hashed(folder)}
    digest = sha256_text(canonical_json(found))
    if digest == base.sha256:
        return
    names = sorted(found.keys() | base.files.keys()) if base.files else []
    changed = [_difference(name, base.files.get(name), found.get(name)) for name in names]
    what = "; ".join(filter(None, changed)) or "its files are others"
    raise DamagedError(
        f"base {base.name} in {folder} is not what was recorded "
        f"(sha256 {base.sha256[:12]} then, {digest[:12]} now): {what}",
        hint=f"put {base.label} back there; a recipe of another name may train on what is there now",
    )


def _hashed(folder: Path) -> list[Path]:
    """Return the files of a base that say what it computes."""
    return sorted(p for p in folder.iterdir() if p.suffix in _HASHED_SUFFIXES and p.name != "manifest.json")


def _difference(name: str, recorded: str | None, found: str | None) -> str:
    if recorded == found:
        return ""
    if recorded is None:
        return f"{name} was not there"
    return f"{name} is missing" if found is None else f"{name} changed"


def _problems_of(folder: Path) -> list[str]:
    problems = []
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    if pickles := [n for n in names if Path(n).suffix in PICKLE_SUFFIXES]:
        problems.append(
            f"{folder} holds {', '.join(pickles)}: a pickle can run code when it is loaded; "
            "only safetensors are read, so convert it or move it away"
        )
    if "config.json" not in names:
        problems.append(f"{folder} has no config.json")
    if not any(n.endswith(".safetensors") for n in names):
        problems.append(f"{folder} has no *.safetensors weights")
    if ADAPTER_CONFIG in names:
        problems.append(f"{folder} holds an adapter, not a base model")
    if "tokenizer.json" not in names:
        problems.append(f"{folder} has no tokenizer.json (a fast tokenizer is needed)")
    return problems


def _has_template(folder: Path) -> bool:
    return (folder / CHAT_TEMPLATE).is_file() or "chat_template" in _read_json(
        folder / "tokenizer_config.json"
    )


def _hub_snapshot(repo: str, revision: str | None) -> Path:
    if revision is None:
        raise ConfigError(
            f"base {repo}: name the revision, so that the same recipe means the same weights tomorrow",
            hint=f"base: {repo}@main (or better, a commit hash)",
            param="base",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.jinja", "*.model", "LICENSE*"]
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NotFoundError(
            f"base {repo}@{revision}: not in the local cache and not to be had from the hub ({reason:.200})",
            hint="download it on a machine with network and give its folder as base:",
            param="base",
        ) from None


def _count_parameters(folder: Path) -> int:
    from safetensors import safe_open

    count = 0
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(str(path), framework="np") as weights:
                for key in weights.keys():  # noqa: SIM118 - not a dict
                    count += math.prod(weights.get_slice(key).get_shape())
        except Exception as error:  # safetensors raises its own untyped error for a corrupt file
            raise ConfigError(f"{path} is not a readable safetensors file: {error}") from None
    return count


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
