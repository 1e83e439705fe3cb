"""The folder of the published models, which may follow one in an object store."""

import logging
import re
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from flask import Flask

from brainscan.bundle import Installed, survey_bundles
from tumorapp.config import FOLDER, ROOT, Kind, Setting

if TYPE_CHECKING:
    from brainscan.bundle.remote import Mirror

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RefusedBundle:
    """A bundle that is not served, though it is installed or in the store, and why."""

    name: str
    version: str
    reason: str


class ModelsFolder:
    """Looks at what is installed, after fetching what is new in the store, if there is one.

    What is wrong is logged once, not at every look.

    Attributes:
        path: the folder of `<name>/<version>/`.
        not_fetched: the bundles of the store that are damaged or not there as a whole.
    """

    def __init__(self, path: Path, mirror: "Mirror | None" = None) -> None:
        self.path = path
        self.not_fetched: tuple[RefusedBundle, ...] = ()
        self._mirror = mirror
        self._unreadable = self._unreachable = ""

    def survey(self, *, follow: bool = True) -> dict[str, Installed] | None:
        """Look at what is installed; None where the folder cannot be read."""
        if follow and self._mirror is not None:
            self._follow(self._mirror)
        try:
            found = survey_bundles(self.path)
        except OSError as error:
            if str(error) != self._unreadable:
                logger.error("The bundles in %s cannot be listed: %s", self.path, error)
            self._unreadable = str(error)
            return None
        self._unreadable = ""
        return found

    def _follow(self, mirror: "Mirror") -> None:
        try:
            left_out = mirror.follow()
        except OSError as error:
            if str(error) != self._unreachable:
                reason = str(error).removesuffix(".")
                logger.error("%s. What was fetched before is served.", reason)
            self._unreachable = str(error)
            return
        self._unreachable, before = "", self.not_fetched
        self.not_fetched = tuple(
            RefusedBundle(name, str(version), reason)
            for (name, version), reason in left_out.items()
        )
        for refusal in self.not_fetched:
            if refusal not in before:
                logger.error("Not fetched: %s/%s: %s", *astuple(refusal))


def make_mirror(app: Flask) -> "Mirror | None":
    """Give what fetches the bundles of a store; None where the setting is a folder."""
    if not (url := app.config["MODELS_URL"]):
        return None
    from brainscan.bundle.remote import Mirror  # with its packages, which a folder does without

    return Mirror(url, app.config["MODELS_DIR"])


def settle_models_folder(app: Flask) -> None:
    """Let MODELS_DIR be a folder: of a store, whose URL goes to MODELS_URL, the local copy."""
    place = app.config["MODELS_DIR"]
    app.config["MODELS_URL"] = place if isinstance(place, str) else ""
    if app.config["MODELS_URL"]:
        app.config["MODELS_DIR"] = app.config["MODELS_CACHE"]


def _parse_place(text: str) -> Path | str:
    if re.fullmatch("(s3|gs)://[^/].*", text):
        return text
    if text.startswith("file:///"):
        text = url2pathname(urlsplit(text).path)
    if "://" in text:
        raise ValueError
    folder: Path = FOLDER.parse(text)
    return folder


_PLACE = Kind(f"{FOLDER.accepted}, or a URL that starts with s3://, gs:// or file://", _parse_place)

SETTINGS = (
    Setting("MODELS_DIR", ROOT / "instance" / "models", _PLACE),
    Setting("MODELS_CACHE", ROOT / "instance" / "cache" / "models", FOLDER),
)
