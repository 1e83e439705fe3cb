from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from tumorapp.cli.configuration_file import config_option
from tumorapp.cli.train import train_command

Run = Callable[..., Result]


@click.command("learn")
@click.option("--model", required=True)
@click.option("--data", required=True, multiple=True, type=click.Path(path_type=Path))
@click.option("--protocol", type=click.Choice(["official", "grouped"]), default="grouped")
@click.option("--epochs", type=click.IntRange(1))
@click.option("--seed", "start", type=int, default=0)
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True))
@click.option("--every-copy/--thin-copies", default=None)
@click.option("--no-publish", is_flag=True)
@config_option()
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


BARE = {
    "model": "binary-cnn",
    "data": (Path("scans"),),
    "protocol": "grouped",
    "epochs": None,
    "start": 0,
    "learning_rate": None,
    "every_copy": None,
    "no_publish": False,
}


def test_a_file_gives_every_kind_of_option(run: Run) -> None:
    result = run("""\
# A run
model: 007
data:
  - instance/data/sartaj
  - "instance/data/my scans"
protocol: official
epochs: 20
seed: 3
learning_rate: 1e-3   # which YAML 1.1 takes for a text
every-copy: false
no-publish: true
""")
    assert result.return_value == {
        "model": "007",
        "data": (Path("instance/data/sartaj"), Path("instance/data/my scans")),
        "protocol": "official",
        "epochs": 20,
        "start": 3,
        "learning_rate": 0.001,
        "every_copy": False,
        "no_publish": True,
    }


def test_what_it_leaves_out_is_as_without_it(run: Run) -> None:
    assert run("model: binary-cnn\ndata: scans").return_value == BARE
    assert isinstance(run("model: a").exception, click.MissingParameter)


def test_the_off_switch_of_an_option(run: Run) -> None:
    for text, expected in (("thin-copies: true", False), ("thin-copies: false", True)):
        assert run(f"model: a\ndata: b\n{text}").return_value["every_copy"] is expected
    both = run("model: a\ndata: b\nthin-copies: true\nevery-copy: true").exception
    assert "'every-copy': It is set twice." in str(both)


@pytest.mark.parametrize("last", [False, True])
def test_the_command_line_goes_before_it(run: Run, last: bool) -> None:
    text = "model: vgg16\ndata: [a, b]\nepochs: 3\nevery-copy: true\nlearning-rate: 0.5"
    arguments = ["--model", "vgg19", "--data", "c", "--epochs", "7", "--thin-copies"]
    given = run(text, *arguments, last=last).return_value
    assert (given["model"], given["data"], given["epochs"]) == ("vgg19", (Path("c"),), 7)
    assert given["every_copy"] is False
    assert given["learning_rate"] == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: a\ndata: [b", "line 2, column 9"),
        ("model: a\n\tepochs: 3", "line 2, column 1"),
        ("epochs: 3\nmodel: \0", "special characters are not allowed"),
        (b"model: caf\xe9", "run.yaml cannot be read as YAML: unacceptable character"),
        ("[" * 5000, "run.yaml cannot be read as YAML"),
        ("", "run.yaml: expected lines such as `epochs: 30`."),
        ("- model", "run.yaml: expected lines such as `epochs: 30`."),
        ("model: a\nlerning_rate: 1", "2: unknown option 'lerning-rate'. Accepted here: learning-"),
        ("# A run\n? [a]\n: b", "run.yaml, line 2: unknown option"),
        ("model: a\nmodel: b", "run.yaml, line 2: 'model': It is set twice."),
        ("\nepochs: many", "run.yaml, line 2: 'epochs': 'many' is not a valid integer"),
        ("epochs: 0", "line 1: 'epochs': 0 is not in the range x>=1."),
        ("epochs:", "line 1: 'epochs': '' is not a valid integer"),
        ("epochs: [3]", "line 1: 'epochs': A list or mapping is not accepted here."),
        ("data: [[a]]", "line 1: 'data': A list or mapping is not accepted here."),
        ("protocol: mine", "line 1: 'protocol': 'mine' is not one of 'official', 'grouped'."),
        ("no-publish: maybe", "line 1: 'no-publish': 'maybe' is not a valid boolean."),
    ],
)
def test_a_mistake_is_named_with_its_line(run: Run, text: str | bytes, message: str) -> None:
    result = run(text)
    assert isinstance(result.exception, click.UsageError), result
    assert message in result.exception.format_message()


def test_the_options_of_training(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model: vgg16\nprotocol: mine")
    result = CliRunner().invoke(train_command, ["--config", str(tmp_path / "run.yaml")])
    assert result.exit_code == 2
    expected = "run.yaml, line 2: 'protocol': 'mine' is not one of 'variants-75-25', 'official', "
    assert expected in result.stderr
