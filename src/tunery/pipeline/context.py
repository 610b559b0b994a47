"""What the stages of one run share: recipe, workspace, and what is expensive to make twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunery.core.engine import Engine
from tunery.core.progress import Progress
from tunery.core.training import Adapter, BaseModelInfo
from tunery.model.bases import check_base, resolve_base
from tunery.model.tokenizer import ChatTokenizer, load_tokenizer
from tunery.pipeline.recipe import Recipe
from tunery.registry.lineage import base_changed_since
from tunery.serve.engines import EngineSettings, open_engine
from tunery.serve.engines.embedded.settings import EmbeddedSettings
from tunery.serve.engines.upstream.shared import sharing
from tunery.store.adapters import adapter_folder, serving_base
from tunery.store.workspace import Workspace
from tunery.track.tracker import Tracker, Untracked


@contextmanager
def _no_signals() -> Iterator[Callable[[], bool]]:
    yield lambda: False


@dataclass(slots=True)
class RunContext:
    """Handed from stage to stage; nothing in it outlives the run."""

    recipe: Recipe
    workspace: Workspace
    base_dir: Path
    """What relative paths of the recipe are relative to."""
    progress: Progress
    should_stop: Callable[[], bool] = lambda: False
    """Asked between steps; True ends the run as ``cancelled``."""
    on_checkpoint: Callable[[int, Mapping[str, float]], None] = lambda step, losses: None
    """Given the step and the losses of every training checkpoint."""
    signals_held: Callable[[], AbstractContextManager[Callable[[], bool]]] = _no_signals
    """Opens a block in which a signal to stop does not interrupt; what it yields tells whether one came."""
    tracker: Tracker = field(default_factory=Untracked)
    """Experiment trackers, while a run is tracked."""
    _base: BaseModelInfo | None = field(default=None, repr=False)
    _tokenizer: ChatTokenizer | None = field(default=None, repr=False)
    _engine: Engine | None = field(default=None, repr=False)
    _answers: BaseModelInfo | None = field(default=None, repr=False)
    """Whose weights the engine holds."""

    @property
    def base(self) -> BaseModelInfo:
        """The base model, converted or checked on first use."""
        if self._base is None:
            self._base = resolve_base(
                self.recipe.base,
                self.workspace.root / "models",
                chat_template=self.recipe.chat_template,
                base_dir=self.base_dir,
                progress=self.progress,
            )
            if changed := base_changed_since(self.workspace, self._base):
                self.progress.event(changed, level="warn")
        return self._base

    @property
    def tokenizer(self) -> ChatTokenizer:
        """The base's tokenizer with its chat template."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.base.path)
        return self._tokenizer

    @property
    def window(self) -> int:
        """Longest prompt with its answer that the base and the engine's settings allow [tokens]."""
        return min(self.tokenizer.max_tokens, self.engine_settings.window or self.tokenizer.max_tokens)

    @property
    def engine_settings(self) -> EngineSettings:
        """The engine that answers: the recipe's, or the embedded one where training computes."""
        train = self.recipe.train
        return self.recipe.evaluate.engine or EmbeddedSettings(device=train.device, threads=train.threads)

    def engine(self, adapter: Adapter | None = None) -> Engine:
        """Return the engine that answers: on this base, with an adapter under its id, or on its weights.

        One engine is open at a time: that of a model of its own takes the place of the base's.

        Raises:
            DamagedError: Files of the base or of the adapter are not what was recorded.
        """
        folder = adapter_folder(self.workspace, adapter) if adapter else None
        base = serving_base(self.workspace, adapter) if adapter and adapter.model else self.base
        if self._answers is not None and self._answers.sha256 != base.sha256:
            self.release_engine()
        if self._engine is None:
            check_base(base)
            settings = sharing(self.engine_settings, base.sha256)
            self._engine, self._answers = open_engine(Path(base.path), settings), base
            check_base(base)  # nobody changed it while it was being read
        if adapter and adapter.loaded_as:
            self._engine.load_adapter(adapter.loaded_as, str(folder))
        return self._engine

    def release_engine(self) -> None:
        """Give the engine's memory back, before training needs it."""
        if self._engine is not None:
            self._engine.close()
            self._engine = self._answers = None

    def on_base(self, base: BaseModelInfo) -> RunContext:
        """Return a context of the same run with another base; its engine is its own and must be released."""
        return replace(self, _base=base, _tokenizer=None, _engine=None, _answers=None)

    def on_engine(self, settings: EngineSettings) -> RunContext:
        """Return a context of the same run with another engine, which is its own and must be released."""
        evaluate = self.recipe.evaluate.model_copy(update={"engine": settings})
        recipe = self.recipe.model_copy(update={"evaluate": evaluate})
        return replace(self, recipe=recipe, _engine=None, _answers=None)

    def check_stop(self) -> None:
        """Raise :class:`KeyboardInterrupt` when someone asked the run to stop."""
        if self.should_stop():
            raise KeyboardInterrupt
