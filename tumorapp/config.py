"""Settings: environment variables that are checked when the service starts.

Each feature declares its own; `docs/configuration.md` lists all, and a test keeps it complete.
"""

import difflib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumorapp.errors import ConfigurationError

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent

_PREFIX = "TUMORAPP_"
# What `flask predict --server`, `flask dicomweb`, `flask data fetch figshare` and compose.yaml
# read; and what Kubernetes sets in every container for services whose name begins with tumorapp.
_NO_SETTINGS = re.compile(
    r"TUMORAPP_(API_KEY|DICOMWEB_URL|FIGSHARE_URL|HOST|(\w+_)?(SERVICE_(HOST|PORT)\w*|PORT(_\d\w*)?))"
)


@dataclass(frozen=True)
class Kind:
    """The values that a setting accepts.

    Attributes:
        accepted: what may be given, in words.
        parse: text → value; raises ValueError if the text is not accepted.
    """

    accepted: str
    parse: Callable[[str], Any]


@dataclass(frozen=True)
class Setting:
    """One setting; docs/configuration.md says what it does.

    Attributes:
        name: its key in `app.config`.
        default: its value where nothing is given.
        kind: what it accepts.
    """

    name: str
    default: Any
    kind: Kind

    @property
    def variable(self) -> str:
        """The environment variable that gives it."""
        return f"{_PREFIX}{self.name}"


def whole_number(least: int, most: int) -> Kind:
    """Accept a whole number between two bounds, which it may reach."""

    def parse(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError
        return number

    return Kind(f"a whole number from {least} to {most}", parse)


def matching(pattern: str, accepted: str) -> Kind:
    """Accept a text that a regular expression matches as a whole."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return Kind(accepted, parse)


def choice(*names: str) -> Kind:
    """Accept one of some words, in these letters."""
    return matching("|".join(names), f"{', '.join(names[:-1])} or {names[-1]}")


def _path(what: str, *, is_folder: bool) -> Kind:
    def parse(text: str) -> Path:
        path = Path(text).expanduser().resolve()
        if path.exists() and path.is_dir() != is_folder:
            raise ValueError
        return path

    return Kind(f"{what}, which need not exist yet", parse)


ON_OFF = choice("on", "off")
FOLDER = _path("a folder", is_folder=True)
FILE = _path("a file", is_folder=False)
# Where a proxy puts the service, as the beginning of its addresses; without "." and "..", which
# browsers resolve.
PREFIX = matching(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", "a path such as /tumorapp")


def read_settings(
    settings: Sequence[Setting], environment: Mapping[str, str], given: Mapping[str, object]
) -> dict[str, Any]:
    """Give every setting its value: one that is given, else the environment's, else the default.

    Unknown `TUMORAPP_` variables are logged as warnings.

    Args:
        settings: those that there are.
        environment: such as `os.environ`. An empty variable counts as not set.
        given: values from code; names that are not among the settings are passed on to Flask.

    Raises:
        ConfigurationError: a value is not accepted; the message names the setting.
    """
    _warn_of_others([setting.variable for setting in settings], environment)
    values: dict[str, Any] = dict(given)
    for setting in settings:
        source, text = setting.variable, environment.get(setting.variable) or None
        if setting.name in given:
            source, value = setting.name, given[setting.name]
            text = None if value is None else str(value)
        values[setting.name] = (
            setting.default if text is None else _parse(setting.kind, source, text)
        )
    return values


def _warn_of_others(known: Sequence[str], environment: Mapping[str, str]) -> None:
    """Warn of variables without effect: a misspelt one may have been meant to protect."""
    for name in sorted(environment.keys() - {*known}):
        if name.startswith(_PREFIX) and environment[name] and not _NO_SETTINGS.fullmatch(name):
            nearest = difflib.get_close_matches(name, known, n=1)
            advice = f" Did you mean {nearest[0]}?" if nearest else ""
            logger.warning(
                "%s is not a setting and has no effect.%s docs/configuration.md lists them all.",
                name,
                advice,
            )


def _parse(kind: Kind, source: str, text: str) -> Any:
    try:
        return kind.parse(text.strip())
    except ValueError:
        text = re.sub("//.*@", "//***@", text)  # an address may hold a password
        raise ConfigurationError(
            f"{source} is {text!r}, which is not accepted. Give {kind.accepted}, "
            "or leave it out for the default."
        ) from None
