"""What a part of the application brings with it, declared next to its code.

A new page is a module in `tumorapp/pages` and a template:

    blueprint = Blueprint("about", __name__)
    FEATURE = Feature("about", blueprint, page=True, menu=Menu(mark("About"), "show", 50))

    @blueprint.get("/about")
    def show() -> str:
        return render_template("about.html")

Modules with features import neither Flask nor anything heavy where gunicorn's master reads them
(`tumorapp.logs`, `tumorapp.server`), so this one does not either.
"""

import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tumorapp.config import Setting

if TYPE_CHECKING:
    from click import Command
    from flask import Blueprint, Flask

# The core, in order: the others need the catalog; of what happens around every request, the first
# begins before the others and ends after them.
_CORE = (
    "catalog",
    "reload",
    "logs",
    "audit",
    "ops",
    "server.overload",
    "uploads",
    "problems",
    "security",
)
# Packages of which each module may hold features.
_PLACES = ("tumorapp.api", "tumorapp.pages")


@dataclass(frozen=True)
class Menu:
    """An entry of the menu.

    Attributes:
        title: marked for translation with `mark`.
        view: the function of the feature's blueprint that it leads to.
        position: entries are in ascending order.
    """

    title: str
    view: str
    position: int


@dataclass(frozen=True)
class Feature:
    """One part of the application.

    Attributes:
        name: that of its blueprint, or of its only endpoint; unique.
        blueprint: its views.
        page: whether its views are for people: in the visitor's language, open, and left out where
            TUMORAPP_PAGES is off.
        open: whether its views need no key where TUMORAPP_API_KEYS is on.
        limited: whether requests to its views count towards TUMORAPP_RATE_LIMIT.
        menu: its entry in the menu.
        switch: the setting, on or off, that decides whether the application has it.
        settings: what can be configured; read whether or not the feature is on.
        commands: for the `flask` command.
        init_app: called before the blueprint is registered.
        start: called when the service starts, and not under the `flask` command.
    """

    name: str
    blueprint: "Blueprint | None" = None
    page: bool = False
    open: bool = False
    limited: bool = True
    menu: Menu | None = None
    switch: str | None = None
    settings: Sequence[Setting] = ()
    commands: Sequence["Command"] = ()
    init_app: "Callable[[Flask], None] | None" = None
    start: "Callable[[Flask], None] | None" = None

    @property
    def needs_key(self) -> bool:
        """Whether a request to it needs a key where TUMORAPP_API_KEYS is on."""
        return not (self.open or self.page)

    @property
    def home(self) -> str:
        """The endpoint that its menu entry leads to; "" where it has none."""
        return f"{self.name}.{self.menu.view}" if self.menu else ""

    def is_on(self, settings: Mapping[str, Any]) -> bool:
        """Tell whether an application with these settings has it."""
        switched_on = self.switch is None or settings[self.switch] == "on"
        return switched_on and not (self.page and settings["PAGES"] == "off")

    def register(self, app: "Flask") -> None:
        """Add it to an application."""
        if self.init_app is not None:
            self.init_app(app)
        if self.blueprint is not None:
            app.register_blueprint(self.blueprint)
        for command in self.commands:
            app.cli.add_command(command)


_FILES = Feature("static", open=True, limited=False)
_UNDECLARED = Feature("")  # needs a key, and counts


def find_features() -> list[Feature]:
    """Find all features, in the order in which they are registered.

    A feature is a module-level name of a package of `tumorapp`, of a module of `tumorapp.api` or
    `tumorapp.pages`, or of a module in `_CORE`.

    Raises:
        ValueError: two features have the same name.
    """
    modules = [
        *(f"tumorapp.{name}" for name in _CORE),
        *(found.name for place in _PLACES for found in _list_modules(place)),
        *(found.name for found in _list_modules("tumorapp") if found.ispkg),
    ]
    values = (value for module in modules for value in vars(import_module(module)).values())
    features: dict[str, Feature] = {}
    for found in values:
        if isinstance(found, Feature) and features.setdefault(found.name, found) is not found:
            raise ValueError(f"Two features are named {found.name!r}. Rename one.")
    return list(features.values())


def _list_modules(package: str) -> Iterator[pkgutil.ModuleInfo]:
    return pkgutil.iter_modules(import_module(package).__path__, f"{package}.")


def feature_of(app: "Flask", endpoint: str | None) -> Feature:
    """Give a view's feature: for a file, an open one; for a view of no feature, a keyed one."""
    name, _, view = (endpoint or "").partition(".")
    if "static" in (endpoint, view):
        return _FILES
    features: Mapping[str, Feature] = app.extensions["features"]
    return features.get(name, _UNDECLARED)
