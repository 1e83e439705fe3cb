"""Every setting: its name, default, environment variable, meaning, and what it accepts.

`docs/configuration.md` describes them for whoever runs the service; a test holds it to this table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumorapp.errors import ConfigurationError

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: its key in `app.config`.
        default: its value where nothing is given.
        help: what it does, in a sentence.
        accepted: what may be given, in words.
        parse: text → value; raises ValueError where the text is not accepted.
    """

    name: str
    default: Any
    help: str
    accepted: str
    parse: Callable[[str], Any]

    @property
    def variable(self) -> str:
        """The environment variable that gives it."""
        return f"TUMORAPP_{self.name}"


def _whole_number(least: int, most: int) -> tuple[str, Callable[[str], int]]:
    def parse(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError
        return number

    return f"a whole number from {least} to {most}", parse


def _choice(*names: str) -> tuple[str, Callable[[str], str]]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return " or ".join(names), parse


def _folder(text: str) -> Path:
    path = Path(text).expanduser().resolve()
    if path.exists() and not path.is_dir():
        raise ValueError
    return path


SETTINGS = (
    Setting(
        "MODELS_DIR",
        ROOT / "instance" / "models",
        "The folder of the published bundles; the newest good version of each model is served.",
        "a folder; one that does not exist yet holds no models",
        _folder,
    ),
    Setting(
        "STUDY_DIR",
        ROOT / "instance" / "study",
        "The folder of the study's results and reports, which the page of the models shows.",
        "a folder; one that does not exist yet holds no results",
        _folder,
    ),
    Setting(
        "DEFAULT_MODEL",
        None,
        "The model that answers where a request names none. Without it: mobilenet-v2 where it is "
        "installed, else the first by name.",
        "the name of an installed model",
        str,
    ),
    Setting(
        "RELOAD_SECONDS",
        2,
        "How often a running service looks for bundles that were published, activated or removed, "
        "in seconds; 0 means never.",
        *_whole_number(0, 86_400),
    ),
    Setting(
        "ENGINE",
        "openvino",
        "What runs the models. tensorflow uses a GPU where there is one, and needs the packages "
        "of requirements.txt.",
        *_choice("openvino", "tensorflow"),
    ),
    Setting(
        "INFERENCE_THREADS",
        0,
        "How many processor threads one inference uses; 0 means one for each core.",
        *_whole_number(0, 1024),
    ),
    Setting(
        "MAX_UPLOAD_MB",
        20,
        "The largest request, in megabytes of 1,048,576 bytes: all images of it together.",
        *_whole_number(1, 2048),
    ),
    Setting(
        "MAX_IMAGES",
        16,
        "How many images one request may hold.",
        *_whole_number(1, 1024),
    ),
    Setting(
        "MAX_PIXELS",
        50_000_000,
        "The largest width × height of one image, checked before it is decoded.",
        *_whole_number(256, 150_000_000),
    ),
    Setting(
        "METRICS",
        "on",
        "Whether /metrics shows Prometheus how much is asked, how fast it is answered and what is "
        "found.",
        *_choice("on", "off"),
    ),
    Setting(
        "LOG_FORMAT",
        "text",
        "How gunicorn writes its log: as text for people, or each line as JSON, with a line for "
        "every request.",
        *_choice("text", "json"),
    ),
)


def read_settings(environment: Mapping[str, str], given: Mapping[str, object]) -> dict[str, Any]:
    """Give every setting its value: one that is given, else the environment's, else the default.

    Args:
        environment: such as `os.environ`. An empty variable counts as none.
        given: values from code; names that are no setting of this table are passed on to Flask.

    Raises:
        ConfigurationError: a value that is not accepted; the message names the setting.
    """
    settings: dict[str, Any] = dict(given)
    for setting in SETTINGS:
        source, value = setting.variable, environment.get(setting.variable) or None
        if setting.name in given:
            source, value = setting.name, _as_text(given[setting.name])
        settings[setting.name] = setting.default
        if value is not None:
            settings[setting.name] = _parse(setting, source, value)
    return settings


def _as_text(value: object) -> str | None:
    return None if value is None else str(value)


def _parse(setting: Setting, source: str, text: str) -> Any:
    try:
        return setting.parse(text.strip())
    except ValueError:
        raise ConfigurationError(
            f"{source} is {text!r}, which is not accepted. Give {setting.accepted}, "
            "or leave it out for the default."
        ) from None
