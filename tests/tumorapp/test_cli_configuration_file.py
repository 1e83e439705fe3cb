import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from tumorapp.cli.configuration_file import config_option
from tumorapp.cli.train import train_command

PROJECT = Path(__file__).parents[2]
Run = Callable[..., Result]


@click.command("learn")
@click.option("--model", required=True)
@click.option("--data", required=True, multiple=True, type=click.Path(path_type=Path))
@click.option("--protocol", type=click.Choice(["official", "grouped"]), default="grouped")
@click.option("--epochs", type=click.IntRange(1))
@click.option("--seed", "start", type=int, default=0)
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True))
@click.option("--augmentation", type=click.FloatRange(0, 3))
@click.option("--every-copy/--thin-copies", default=None)
@click.option("--no-publish", is_flag=True)
@config_option
def learn(**options: Any) -> dict[str, Any]:
    return options


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Write a file and run the command with it: `run("model: a", "--epochs", "3")`."""

    def run(text: str | bytes, *arguments: str, last: bool = False) -> Result:
        file = tmp_path / "run.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        config = ["--config", str(file)]
        given = [*arguments, *config] if last else [*config, *arguments]
        return CliRunner().invoke(learn, given, standalone_mode=False)

    return run


def assert_refused(result: Result, message: str) -> None:
    assert isinstance(result.exception, click.UsageError), result
    assert message in result.exception.format_message()


BARE = {
    "model": "binary-cnn",
    "data": (Path("scans"),),
    "protocol": "grouped",
    "epochs": None,
    "start": 0,
    "learning_rate": None,
    "augmentation": None,
    "every_copy": None,
    "no_publish": False,
}


class TestOptions:
    def test_a_file_gives_every_kind_of_option(self, run: Run) -> None:
        result = run("""\
# A run
model: vgg16
data:
  - instance/data/sartaj
  - "instance/data/my scans"
protocol: official
epochs: 20
seed: 3
learning-rate: 1e-3   # which YAML 1.1 takes for a text
augmentation: 0.5
every-copy: false
no-publish: true
""")
        assert result.return_value == {
            "model": "vgg16",
            "data": (Path("instance/data/sartaj"), Path("instance/data/my scans")),
            "protocol": "official",
            "epochs": 20,
            "start": 3,
            "learning_rate": 0.001,
            "augmentation": 0.5,
            "every_copy": False,
            "no_publish": True,
        }

    def test_what_it_leaves_out_is_as_without_it(self, run: Run) -> None:
        assert run("model: binary-cnn\ndata: [scans]").return_value == BARE

    @pytest.mark.parametrize("last", [False, True])
    def test_the_command_line_goes_before_it(self, run: Run, last: bool) -> None:
        text = "model: vgg16\ndata: [a, b]\nepochs: 3\nevery-copy: true\nlearning_rate: 0.5"
        arguments = ["--model", "vgg19", "--data", "c", "--epochs", "7", "--thin-copies"]
        given = run(text, *arguments, last=last).return_value
        assert given["model"] == "vgg19"
        assert given["data"] == (Path("c"),)
        assert given["epochs"] == 7
        assert given["every_copy"] is False
        assert given["learning_rate"] == 0.5

    @pytest.mark.parametrize("key", ["learning-rate", "learning_rate"])
    def test_dashes_or_underscores(self, run: Run, key: str) -> None:
        given = run(f"model: a\ndata: [b]\n{key}: 2").return_value
        assert given["learning_rate"] == 2.0

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("every-copy: true", True),
            ("every-copy: no", False),
            ("thin-copies: true", False),
            ("thin_copies: off", True),
        ],
    )
    def test_a_flag_by_either_of_its_names(self, run: Run, line: str, expected: bool) -> None:
        assert run(f"model: a\ndata: [b]\n{line}").return_value["every_copy"] is expected

    @pytest.mark.parametrize(
        ("value", "expected"),
        [("none", "none"), ("2026-11-21", "2026-11-21"), ("007", "007"), ("'~'", "~")],
    )
    def test_text_is_taken_as_it_stands(self, run: Run, value: str, expected: str) -> None:
        assert run(f"model: {value}\ndata: [b]").return_value["model"] == expected

    def test_one_value_will_do_where_a_list_is_accepted(self, run: Run) -> None:
        assert run("model: binary-cnn\ndata: scans").return_value == BARE

    def test_an_anchor_may_be_used_again(self, run: Run) -> None:
        assert run("model: &name a\ndata: [*name]").return_value["data"] == (Path("a"),)

    def test_what_is_required_and_nowhere_given_is_missed(self, run: Run) -> None:
        assert isinstance(run("model: a").exception, click.MissingParameter)
        assert isinstance(run("model: a\ndata: []").exception, click.MissingParameter)

    def test_without_a_file_nothing_changes(self) -> None:
        result = CliRunner().invoke(
            learn, ["--model", "binary-cnn", "--data", "scans"], standalone_mode=False
        )
        assert result.return_value == BARE

    def test_defaults_of_the_context_stay(self, tmp_path: Path) -> None:
        (tmp_path / "run.yaml").write_text("data: [scans]")
        result = CliRunner().invoke(
            learn,
            ["--config", str(tmp_path / "run.yaml")],
            default_map={"model": "binary-cnn", "data": ["elsewhere"]},
            standalone_mode=False,
        )
        assert result.return_value == BARE


class TestBrokenFiles:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("model: a\ndata: [b", "run.yaml, line 2, column 9: This is not YAML: while parsing"),
            ("model: a\n\tepochs: 3", "line 2, column 1: This is not YAML: while scanning"),
            ("model: *a", "line 1, column 8: This is not YAML: found undefined alias 'a'."),
            ("model: a\n---\nmodel: b", "line 2, column 1: This is not YAML: expected a single"),
            ("epochs: 3\nmodel: \0", "line 2, column 8: This is not YAML: it holds the character"),
            (b"model: caf\xe9", "run.yaml is not text in UTF-8"),
            ("[" * 5000, "run.yaml is nested too deeply"),
            ("", "run.yaml holds nothing. Accepted: lines of `option: value`"),
            ("# epochs: 3", "run.yaml holds nothing."),
            ("- model", "run.yaml holds a list."),
            ("model", "run.yaml holds a value."),
        ],
    )
    def test_what_is_no_mapping_in_yaml(self, run: Run, text: str | bytes, message: str) -> None:
        assert_refused(run(text), message)

    def test_an_unknown_key(self, run: Run) -> None:
        result = run("model: a\nlerning_rate: 1")
        assert_refused(
            result,
            "run.yaml, line 2: 'lerning_rate' is no option of learn. Did you mean "
            "'learning-rate'? Accepted: augmentation, data, epochs, every-copy, learning-rate, "
            "model, no-publish, protocol, seed, thin-copies.",
        )

    @pytest.mark.parametrize("key", ["optimiser", "5", "config", "help", "start", "<<", "[a]"])
    def test_a_key_like_no_other(self, run: Run, key: str) -> None:
        result = run(f"model: a\n? {key}\n: {{}}")
        assert_refused(result, "line 2: ")
        assert_refused(result, " is no option of learn. Accepted: augmentation, ")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("model: a\nmodel: b", "line 2: 'model' is set a second time; the first is on line 1."),
            ("learning-rate: 1\n\nlearning_rate: 1", "line 3: 'learning_rate' is set a second"),
            ("every-copy: true\nthin-copies: true", "line 2: 'thin-copies' is set a second time"),
        ],
    )
    def test_a_key_that_is_there_twice(self, run: Run, text: str, message: str) -> None:
        assert_refused(run(text), message)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("epochs: many", "'epochs': received many. Accepted: a whole number from 1."),
            ("epochs: 0", "'epochs': received 0. Accepted: a whole number from 1."),
            ("epochs: 2.5", "'epochs': received 2.5. Accepted: a whole number from 1."),
            ("epochs: true", "'epochs': received true. Accepted: a whole number from 1."),
            ("epochs: '3'", "'epochs': received the text '3'. Accepted: a whole number from 1."),
            ("epochs:", "'epochs': received nothing. Accepted: a whole number from 1."),
            ("epochs: [3]", "'epochs': received a list. Accepted: a whole number from 1."),
            ("seed: x", "'seed': received x. Accepted: a whole number."),
            ("learning-rate: 0", "received 0. Accepted: a number above 0."),
            ("augmentation: 4", "received 4. Accepted: a number from 0 up to 3."),
            ("protocol: mine", "'protocol': 'mine' is not one of 'official', 'grouped'."),
            ("protocol: {}", "received a mapping. Accepted: one of official, grouped."),
            ("model: [a, b]", "'model': received a list. Accepted: a value as on the command"),
            ("model: null", "'model': received nothing."),
            ("model: !!python/name:os.system a", "'model': received a."),
            ("data: [[a]]", "'data': received a list."),
            ("data: {a: b}", "'data': received a mapping."),
            ("every-copy: 1", "'every-copy': received 1. Accepted: true or false."),
            ("no-publish: 'true'", "received the text 'true'. Accepted: true or false."),
            ("no-publish: !!bool maybe", "received maybe. Accepted: true or false."),
            ("no-publish: [true]", "received a list. Accepted: true or false."),
        ],
    )
    def test_a_value_that_is_not_accepted(self, run: Run, text: str, message: str) -> None:
        result = run(f"# A run\n\n{text}")
        assert_refused(result, "run.yaml, line 3: ")
        assert_refused(result, message)

    def test_the_line_is_the_values_own(self, run: Run) -> None:
        assert_refused(run("model: a\ndata:\n  - b\n  - {c: d}"), "line 4: 'data': received a map")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        for path in (tmp_path / "nowhere.yaml", tmp_path):
            result = CliRunner().invoke(learn, ["--config", str(path)])
            assert result.exit_code == 2
            assert "Invalid value for '--config'" in result.stderr


class TestTrain:
    """The options of `flask train` itself, with a command that only hands them back."""

    @pytest.fixture
    def train(self, tmp_path: Path) -> Run:
        options = [one for one in train_command.params if one.name != "config"]
        command = click.Command("train", params=options, callback=lambda **options: options)
        config_option(command)

        def train(text: str, *arguments: str) -> Result:
            (tmp_path / "run.yaml").write_text(text)
            given = ["--config", str(tmp_path / "run.yaml"), *arguments]
            return CliRunner().invoke(command, given, standalone_mode=False)

        return train

    def test_a_run_from_a_file_is_the_run_of_its_options(self, train: Run) -> None:
        arguments = [
            *("--model", "vgg16", "--data", "instance/data/sartaj", "--data", "scans"),
            *("--exclude", "sartaj/*/glioma_tumor/*", "--protocol", "random-80-20"),
            *("--epochs", "20", "--batch", "16", "--learning-rate", "1e-4", "--every-copy"),
            *("--weights", "none", "--no-publish"),
        ]
        text = """\
model: vgg16
data: [instance/data/sartaj, scans]
exclude: [sartaj/*/glioma_tumor/*]
protocol: random-80-20
epochs: 20
batch: 16
learning-rate: 1e-4
every-copy: true
weights: none
no-publish: true
"""
        result = train(text)
        assert result.exception is None
        assert result.return_value == train("{}", *arguments).return_value
        assert result.return_value["data"] == (Path("instance/data/sartaj"), Path("scans"))
        assert result.return_value["learning_rate"] == 1e-4

    def test_a_wrong_protocol_names_those_there_are(self, train: Run) -> None:
        result = train("model: vgg16\nprotocol: mine")
        assert_refused(result, "run.yaml, line 2: 'protocol': 'mine' is not one of 'official', ")


def test_the_module_needs_no_yaml_until_a_file_is_read() -> None:
    program = "import sys; sys.modules['yaml'] = None; import tumorapp.cli.configuration_file"
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True)
