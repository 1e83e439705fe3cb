"""Which bundles are installed, which of them are served, and why the others are not."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from types import MappingProxyType

import numpy as np

from training.bundle import BundleError, Card, installed_versions, read_bundle
from tumorapp.engine import Engine, EngineError, choose_engine
from tumorapp.errors import DefaultModelError, NoModelError, UnknownModelError

PREFERRED_MODEL = "mobilenet-v2"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to answer."""

    card: Card
    engine: Engine


@dataclass(frozen=True)
class Refusal:
    """A bundle that is installed and not served, and why."""

    name: str
    version: str
    reason: str


@dataclass(frozen=True)
class _Served:
    models: Mapping[str, LoadedModel] = field(default_factory=dict)
    refused: tuple[Refusal, ...] = ()


class Catalog:
    """The models that are served: of each name the newest version that is whole and runs.

    Args:
        models_dir: folder of `<name>/<version>/`.
        engine: openvino or tensorflow.
        threads: processor threads for one inference; 0 for one for each core.
        default: the model for requests that name none; None chooses one.
    """

    def __init__(
        self,
        models_dir: Path,
        engine: str = "openvino",
        threads: int = 0,
        default: str | None = None,
    ) -> None:
        self._models_dir = models_dir
        self._engine = engine
        self._threads = threads
        self._default = default
        self._served: _Served | None = None
        self._loading = RLock()

    def load(self) -> None:
        """Verify, open and warm the bundles; what was served before serves until this is done.

        A bundle that is damaged or cannot run is logged by name and left out; an older good
        version takes its place.

        Raises:
            ConfigurationError: the engine's packages are not installed.
        """
        with self._loading:
            self._served = self._load_newest()
        self._report(self._served)

    def _load_newest(self) -> _Served:
        open_bundle = choose_engine(self._engine, self._threads)
        models: dict[str, LoadedModel] = {}
        refused: list[Refusal] = []
        for name, versions in self._list_installed().items():
            for version in reversed(versions):
                folder = self._models_dir / name / str(version)
                try:
                    models[name] = _load_model(folder, open_bundle)
                    break
                except (BundleError, EngineError) as error:
                    refused.append(Refusal(name, str(version), str(error)))
        return _Served(MappingProxyType(models), tuple(refused))

    def _list_installed(self) -> dict[str, list[int]]:
        try:
            return installed_versions(self._models_dir)
        except OSError as error:
            logger.error("The bundles in %s cannot be listed: %s", self._models_dir, error)
            return {}

    def _report(self, served: _Served) -> None:
        for refusal in served.refused:
            logger.error("Refused %s/%s: %s", refusal.name, refusal.version, refusal.reason)
        for model in served.models.values():
            logger.info("Serving %s/%s.", model.card.name, model.card.version)
        if not served.models:
            logger.error("No model is served: there is no good bundle in %s.", self._models_dir)
        elif self._default is not None and self._default not in served.models:
            logger.error("The default model %s is not served.", self._default)

    def _read(self) -> _Served:
        if self._served is None:
            with self._loading:
                if self._served is None:
                    self.load()
        return self._served or _Served()

    @property
    def models(self) -> Mapping[str, LoadedModel]:
        """The models that are served, by name; loads them on first use."""
        return self._read().models

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """The bundles that are installed and not served."""
        return self._read().refused

    @property
    def default_name(self) -> str | None:
        """The model for requests that name none; None where there is none.

        One that was chosen in the settings is never replaced: another may have other classes.
        """
        if self._default is not None:
            return self._default if self._default in self.models else None
        return PREFERRED_MODEL if PREFERRED_MODEL in self.models else min(self.models, default=None)

    def get(self, name: str | None = None) -> LoadedModel:
        """Give the model of that name, or the default one.

        Raises:
            NoModelError: nothing is served.
            DefaultModelError: none was named, and the one set as the default is not served.
            UnknownModelError: no model has that name; the message lists those there are.
        """
        if not self.models:
            raise NoModelError(
                "No model is installed here, so nothing can be predicted. Whoever runs this "
                "service finds the reason in its log; `flask train` makes a model."
            )
        names = sorted(self.models)
        chosen = name or self.default_name
        if chosen is None:
            raise DefaultModelError(
                f"The model {self._default}, which is to answer where none is named, is not "
                f"served. Name one of: {', '.join(names)}. Whoever runs this service finds the "
                "reason in its log.",
                names,
            )
        model = self.models.get(chosen)
        if model is None:
            raise UnknownModelError(
                f"There is no model named {chosen!r}. Choose one of: {', '.join(names)}.", names
            )
        return model


def _load_model(folder: Path, open_bundle: Callable[[Path, Card], Engine]) -> LoadedModel:
    """Verify a bundle, open it, and check what it answers to one scan, which also warms it."""
    card = read_bundle(folder)
    engine = open_bundle(folder, card)
    try:
        outputs = engine.predict(np.zeros((1, card.scan.size, card.scan.size, 1), np.uint8))
    except RuntimeError as error:
        raise EngineError(f"It fails on a scan as its card describes them: {error}") from error
    expected = (1, len(card.classes))
    if outputs.probabilities.shape != expected:
        raise EngineError(
            f"It gives probabilities of shape {outputs.probabilities.shape}; its card has "
            f"{len(card.classes)} classes."
        )
    if (outputs.heatmaps is None) != (card.feature_layer is None):
        raise EngineError("Its card and its graph disagree on whether there is a heat map.")
    return LoadedModel(card, engine)
