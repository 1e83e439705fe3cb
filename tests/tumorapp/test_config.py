import ast
import re
from pathlib import Path

import pytest

from tumorapp import create_app
from tumorapp.config import ROOT, read_settings
from tumorapp.errors import ConfigurationError
from tumorapp.feature import find_features

SETTINGS = [setting for feature in find_features() for setting in feature.settings]
DEFAULTS = {setting.name: setting.default for setting in SETTINGS}


def test_the_environment_goes_before_the_default_and_code_before_both() -> None:
    environment = {"TUMORAPP_MAX_IMAGES": " 3 ", "TUMORAPP_MAX_UPLOAD_MB": "7"}
    settings = read_settings(SETTINGS, environment, {"MAX_UPLOAD_MB": 9, "TESTING": True})
    assert (settings["MAX_IMAGES"], settings["MAX_UPLOAD_MB"]) == (3, 9)
    assert settings["TESTING"] is True


def test_an_empty_variable_counts_as_none() -> None:
    assert read_settings(SETTINGS, {setting.variable: "" for setting in SETTINGS}, {}) == DEFAULTS


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("TUMORAPP_MAX_IMAGE", " Did you mean TUMORAPP_MAX_IMAGES?"),
        ("TUMORAPP_API_KEYES", " Did you mean TUMORAPP_API_KEYS?"),
        ("TUMORAPP_max_images", ""),
    ],
)
def test_an_unknown_variable_is_logged_as_a_warning(
    name: str, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_settings(SETTINGS, {name: "secret"}, {}) == DEFAULTS
    [message] = caplog.messages
    assert message == (
        f"{name} is not a setting and has no effect.{advice} docs/configuration.md lists them all."
    )


def test_other_variables_are_none_of_its_business(caplog: pytest.LogCaptureFixture) -> None:
    others = ("TUMORAPP_API_KEY", "TUMORAPP_FIGSHARE_URL", "TUMORAPP_HOST", "TUMORAPP_PORT", "PATH")
    cluster = ("TUMORAPP_SERVICE_HOST", "TUMORAPP_WEB_PORT_8000_TCP_ADDR")
    read_settings(SETTINGS, {**dict.fromkeys([*others, *cluster], "x"), "TUMORAPP_EMPTY": ""}, {})
    assert not caplog.messages


def test_a_folder_becomes_a_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read_settings(SETTINGS, {"TUMORAPP_MODELS_DIR": "models"}, {})
    assert settings["MODELS_DIR"] == tmp_path.resolve() / "models"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_IMAGES", "0"),
        ("MAX_IMAGES", "many"),
        ("MAX_IMAGES", "1.5"),
        ("MAX_UPLOAD_MB", "-1"),
        ("MAX_PIXELS", "1e9"),
        ("INFERENCE_THREADS", "-1"),
        ("ENGINE", "onnx"),
        ("ENGINE", "OpenVINO"),
        ("GRAPH", "int4"),
        ("MODELS_DIR", __file__),
        ("KEYS_FILE", "/"),
        ("RATE_LIMIT", "60"),
        ("RATE_LIMIT", "0/minute"),
        ("RATE_LIMIT", "60/minute; 1/day"),
        ("REDIS", "mongodb://x"),
        ("REDIS", "redis://x:port"),
        ("TRUSTED_HOSTS", "https://scans.example"),
        ("TRUSTED_HOSTS", "a.example,,b.example"),
        ("PROXIES", "-1"),
    ],
)
def test_a_bad_value_is_refused_at_start(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TUMORAPP_{name}", value)
    with pytest.raises(ConfigurationError, match=f"^TUMORAPP_{name} is {re.escape(repr(value))}"):
        create_app()
    with pytest.raises(ConfigurationError, match=f"^{name} is "):
        create_app({name: value})


def test_a_refused_address_shows_no_password() -> None:
    with pytest.raises(ConfigurationError, match=r"redis://\*\*\*@host:port"):
        create_app({"REDIS": "redis://user:password@host:port"})


def test_messages_name_settings_as_the_environment_does() -> None:
    names = "|".join(setting.name for setting in SETTINGS)
    for file in (ROOT / "tumorapp").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and " " in text and id(node) not in documentation:
                assert not re.search(rf"\b({names})\b", text), (file, text)


def test_each_setting_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(TUMORAPP_\w+)` \| (.+?) \| (.+?) \|$", text, flags=re.MULTILINE)
    assert {variable for variable, _, _ in rows} == {setting.variable for setting in SETTINGS}
    for setting in SETTINGS:
        [(default, words)] = [(d, w) for variable, d, w in rows if variable == setting.variable]
        assert words.endswith(f". Accepts {setting.kind.accepted}.")
        shown = setting.default
        if isinstance(shown, Path):
            shown = shown.relative_to(ROOT)
        assert default == ("none" if shown is None else f"`{shown}`")
