"""Every setting: its name, default, environment variable, meaning, and what it accepts.

`docs/configuration.md` describes them for whoever runs the service; a test holds it to this table.
"""

import difflib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumorapp.errors import ConfigurationError

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent

_PREFIX = "TUMORAPP_"
# What `flask predict --server`, `flask data fetch figshare` and compose.yaml read; and what
# Kubernetes sets in every container for services whose name begins with tumorapp.
_NO_SETTINGS = re.compile(
    r"TUMORAPP_(API_KEY|FIGSHARE_URL|HOST|(\w+_)?(SERVICE_(HOST|PORT)\w*|PORT(_\d\w*)?))"
)
_OWN_HOSTS = ("localhost", "127.0.0.1")  # health checks on the machine itself


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
        return f"{_PREFIX}{self.name}"


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


def _file(text: str) -> Path:
    path = Path(text).expanduser().resolve()
    if path.is_dir():
        raise ValueError
    return path


def _rate(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", text):
        raise ValueError
    return text


def _storage(text: str) -> str:
    if text != "memory://" and not text.startswith(("redis://", "rediss://")):
        raise ValueError
    return text


def _hosts(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(re.fullmatch(r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name) for name in names):
        raise ValueError
    return [*names, *_OWN_HOSTS]


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
        "GRAPH",
        "auto",
        "Which graph openvino runs of a bundle that has an int8 one too. auto is int8 where the "
        "processor has instructions for it (VNNI) and at most 1% of the answers change.",
        *_choice("auto", "fp16", "int8"),
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
        "MAX_WAITING",
        128,
        "How many requests may wait for one of a worker's threads; the next is refused with 503 at "
        "once.",
        *_whole_number(0, 400),
    ),
    Setting(
        "JOBS",
        "on",
        "Whether many scans may be sent as a job, to be answered later.",
        *_choice("on", "off"),
    ),
    Setting(
        "JOBS_DIR",
        ROOT / "instance" / "jobs",
        "The folder of the jobs: the images of those that are not done, and the results. It has to "
        "be on a disk of this machine.",
        "a folder; one that does not exist yet is made with the first job",
        _folder,
    ),
    Setting(
        "MAX_JOB_MB",
        200,
        "The largest job, in megabytes of 1,048,576 bytes: the request, and also its images once "
        "unpacked. Each of them may have as much as a request for one.",
        *_whole_number(1, 2048),
    ),
    Setting(
        "MAX_JOB_IMAGES",
        1000,
        "How many images one job may hold.",
        *_whole_number(1, 10_000),
    ),
    Setting(
        "MAX_JOBS",
        8,
        "How many jobs may wait and run at once; another is refused with 429.",
        *_whole_number(1, 1000),
    ),
    Setting(
        "JOB_HOURS",
        24,
        "How many hours the results of a job are kept; beyond 1,000 jobs, the oldest go earlier.",
        *_whole_number(1, 8760),
    ),
    Setting(
        "API_KEYS",
        "off",
        "Whether /api, /v2 and /metrics ask for a key, which `flask keys add` makes; the pages "
        "never do.",
        *_choice("on", "off"),
    ),
    Setting(
        "KEYS_FILE",
        ROOT / "instance" / "keys" / "keys.json",
        "The file of the keys' hashes.",
        "a file; one that does not exist yet holds no keys",
        _file,
    ),
    Setting(
        "PAGES",
        "on",
        "Whether there are pages for people; without them, the API alone is served.",
        *_choice("on", "off"),
    ),
    Setting(
        "RATE_LIMIT",
        None,
        "How often one client, known by its key or else its address, may ask; what goes beyond is "
        "refused with 429.",
        "a number for each second, minute, hour or day, such as 60/minute",
        _rate,
    ),
    Setting(
        "RATE_LIMIT_STORAGE",
        "memory://",
        "Where requests are counted. In memory, each worker counts for itself; a Redis counts for "
        "all, and needs the package redis.",
        "memory:// or an address such as redis://127.0.0.1:6379",
        _storage,
    ),
    Setting(
        "TRUSTED_HOSTS",
        None,
        "The names under which the service may be addressed; localhost and 127.0.0.1 are always "
        "among them. Without any, every name will do.",
        "names with commas between them; one that starts with a dot stands for all below it",
        _hosts,
    ),
    Setting(
        "PROXIES",
        0,
        "How many proxies stand in front, each of which sets X-Forwarded-For, -Proto and -Host; 0 "
        "means that these headers are not believed.",
        *_whole_number(0, 10),
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

    A variable of the environment that is named like a setting and is none is told in the log.

    Args:
        environment: such as `os.environ`. An empty variable counts as none.
        given: values from code; names that are no setting of this table are passed on to Flask.

    Raises:
        ConfigurationError: a value that is not accepted; the message names the setting.
    """
    _warn_of_others(environment)
    settings: dict[str, Any] = dict(given)
    for setting in SETTINGS:
        source, value = setting.variable, environment.get(setting.variable) or None
        if setting.name in given:
            source, value = setting.name, _as_text(given[setting.name])
        settings[setting.name] = setting.default
        if value is not None:
            settings[setting.name] = _parse(setting, source, value)
    return settings


def _warn_of_others(environment: Mapping[str, str]) -> None:
    """Tell of variables without effect: one that is misspelt may have been meant to protect."""
    known = [setting.variable for setting in SETTINGS]
    for name in sorted(environment.keys() - {*known}):
        if name.startswith(_PREFIX) and environment[name] and not _NO_SETTINGS.fullmatch(name):
            nearest = difflib.get_close_matches(name, known, n=1)
            advice = f" Did you mean {nearest[0]}?" if nearest else ""
            logger.warning(
                "%s is no setting and has no effect.%s docs/configuration.md lists all.",
                name,
                advice,
            )


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
