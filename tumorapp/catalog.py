"""Which bundles are installed, which of them are served, and why the others are not."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import cv2
from flask import Flask, current_app

from brainscan import Answer, Model, Problem
from brainscan.bundle import BundleError, Installed
from brainscan.bundle.versions import Stamp
from brainscan.engine import EngineError, EngineUnavailableError, OpenBundle, choose_engine
from brainscan.model import Observer
from brainscan.opening import open_version
from tumorapp.config import Kind, Setting, choice, whole_number
from tumorapp.errors import ConfigurationError
from tumorapp.feature import Feature
from tumorapp.models_folder import (
    SETTINGS,
    ModelsFolder,
    RefusedBundle,
    make_mirror,
    settle_models_folder,
)

if TYPE_CHECKING:
    from brainscan.bundle.remote import Mirror

PREFERRED_MODELS = ("lesion-lite0", "mobilenet-v2")

logger = logging.getLogger(__name__)


_Key = tuple[str, int, Stamp]  # a bundle's name, version and files


@dataclass(frozen=True)
class _Served:
    """What is served, and what it was made of.

    Attributes:
        models: by name.
        refused: the bundles that were tried in vain.
        installed: what was on disk.
        tried: what became of each bundle that was opened, and of which files that is true.
    """

    models: Mapping[str, Model] = field(default_factory=dict)
    refused: tuple[RefusedBundle, ...] = ()
    installed: Mapping[str, Installed] = field(default_factory=dict)
    tried: Mapping[_Key, Model | RefusedBundle] = field(default_factory=dict)


class Catalog:
    """The models that are served: of each name the newest version that is whole and runs.

    Where a person chose a version (`flask models activate`), it is the newest up to that one.

    Args:
        models_dir: folder of `<name>/<version>/`.
        engine, threads, graph: see `choose_engine`.
        default: the model for requests that name none; None chooses one.
        mirror: makes that folder follow one in an object store.

    Attributes:
        observers: are called with what was predicted, before it is answered.
    """

    def __init__(
        self,
        models_dir: Path,
        engine: str = "openvino",
        threads: int = 0,
        default: str | None = None,
        graph: str = "auto",
        mirror: "Mirror | None" = None,
    ) -> None:
        self._folder = ModelsFolder(models_dir, mirror)
        self._engine = engine
        self._threads = threads
        self._default = default
        self._graph = graph
        self.observers: list[Observer] = []
        self._served: _Served | None = None
        self._loading = RLock()

    def load(self, *, follow: bool = True) -> None:
        """Verify, open and warm the bundles; what was served before serves until this is done.

        A bundle that is damaged or cannot run is logged by name and left out; an older good
        version takes its place.

        Args:
            follow: whether to fetch first what is new in the store, if there is one.

        Raises:
            ConfigurationError: the engine's packages are not installed.
        """
        cv2.setNumThreads(1)  # its own threads take twice the time on small pictures like these
        with self._loading:
            self._take_up(_Served(), self._folder.survey(follow=follow) or {})

    def refresh(self) -> None:
        """Take up what was published, chosen or removed since; opens only what is new.

        Requests go on meanwhile with the models that were served before, and those under way
        finish with them. Where a bundle is refused and none of the others of its name is good, the
        model that was served stays; so do all of them while the folder cannot be read.
        """
        with self._loading:
            before, installed = self._read(), self._folder.survey()
            # A folder that does not exist is being replaced by another.
            if installed not in (None, before.installed) and self._folder.path.is_dir():
                self._take_up(before, installed or {})

    def _take_up(self, before: _Served, installed: Mapping[str, Installed]) -> None:
        """Serve what is installed; opens only what was not opened before or has changed."""
        try:
            open_bundle = choose_engine(self._engine, self._threads, self._graph)
        except EngineUnavailableError as error:
            raise ConfigurationError(
                f"{error} Install requirements.txt, or set TUMORAPP_ENGINE=openvino."
            ) from error
        models: dict[str, Model] = {}
        tried: dict[_Key, Model | RefusedBundle] = {}
        refused = [
            RefusedBundle(name, "active", it.fault) for name, it in installed.items() if it.fault
        ]
        # One after another: where two threads make OpenVINO's first inference at the same time, its
        # bindings may wait for each other for ever (one start in some hundred did).
        for name, found in installed.items():
            if name in before.models:
                models[name] = before.models[name]  # unless a version is good
            for version in found.candidates:
                key = name, version, found.stamps.get(version, ())
                outcome = before.tried.get(key) or self._try(name, version, open_bundle)
                tried[key] = outcome
                if isinstance(outcome, Model):
                    models[name] = outcome
                    break
                refused.append(outcome)
        self._served = _Served(MappingProxyType(models), tuple(refused), installed, tried)
        self._report(before, self._served)

    def _try(self, name: str, version: int, open_bundle: OpenBundle) -> Model | RefusedBundle:
        # Of the list alone: a model that held the catalog would keep it alive until a collection.
        observe = partial(_tell, self.observers)
        try:
            return open_version(self._folder.path / name / str(version), open_bundle, observe)
        except (BundleError, EngineError) as error:
            return RefusedBundle(name, str(version), str(error))

    def _report(self, before: _Served, served: _Served) -> None:
        """Log what is new."""
        for refusal in served.refused:
            if refusal not in before.refused:
                logger.error("Refused %s/%s: %s", refusal.name, refusal.version, refusal.reason)
        for name, model in served.models.items():
            if before.models.get(name) is not model:
                logger.info("Serving %s/%s.", name, model.card.version)
        for name in before.models.keys() - served.models.keys():
            logger.info("No longer serving %s: it was removed.", name)
        if not served.models:
            logger.error("No model is served: there is no good bundle in %s.", self._folder.path)
        elif self._default is not None and self._default not in served.models:
            logger.error("The default model %s is not served.", self._default)

    def _read(self) -> _Served:
        if self._served is None:
            with self._loading:
                if self._served is None:
                    self.load()
        return self._served or _Served()

    @property
    def models(self) -> Mapping[str, Model]:
        """The models that are served, by name and in its order; loads them on first use."""
        return self._read().models

    @property
    def refused(self) -> tuple[RefusedBundle, ...]:
        """The bundles that are installed and not served, and those that could not be fetched."""
        return (*self._read().refused, *self._folder.not_fetched)

    @property
    def default_name(self) -> str | None:
        """The model for requests that do not name one; None if it is not served.

        One that was chosen in the settings is never replaced: another may have other classes.
        """
        if self._default is not None:
            return self._default if self._default in self.models else None
        preferred = (name for name in PREFERRED_MODELS if name in self.models)
        return next(preferred, min(self.models, default=None))

    def get(self, name: str | None = None) -> Model:
        """Give the model of that name, or the default one.

        Raises:
            Problem: nothing is served, no model has that name, or none was named and the one set as
                the default is not served.
        """
        models = self.models
        if not models:
            raise Problem("no-model")
        known: dict[str, Any] = {"accepted": list(models), "models": ", ".join(models)}
        chosen = name or self.default_name
        if chosen is None:
            raise Problem("default-model-missing", model=self._default or "", **known)
        if chosen not in models:
            raise Problem("unknown-model", model=repr(chosen), **known)
        return models[chosen]


def get_catalog() -> Catalog:
    """Give the catalog of the application that is at work."""
    catalog: Catalog = current_app.extensions["catalog"]
    return catalog


def _tell(
    observers: Sequence[Observer], found: Sequence[Answer], seconds: Mapping[str, float]
) -> None:
    for observe in observers:
        observe(found, seconds)


def _init_app(app: Flask) -> None:
    settle_models_folder(app)
    config = app.config
    app.extensions["catalog"] = Catalog(
        config["MODELS_DIR"],
        config["ENGINE"],
        config["INFERENCE_THREADS"],
        config["DEFAULT_MODEL"],
        config["GRAPH"],
        make_mirror(app),
    )


FEATURE = Feature(
    "catalog",
    init_app=_init_app,
    settings=(
        *SETTINGS,
        Setting("DEFAULT_MODEL", None, Kind("the name of an installed model", str)),
        Setting("ENGINE", "openvino", choice("openvino", "tensorflow")),
        Setting("GRAPH", "auto", choice("auto", "fp16", "int8")),
        Setting("INFERENCE_THREADS", 0, whole_number(0, 1024)),
    ),
)
