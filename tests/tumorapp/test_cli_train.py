"""`flask train` and `flask data` as a person types them, on phantoms."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from brainscan.bundle import installed_versions, read_bundle
from training.data.folders import read_trees
from training.data.task import set_task
from training.models import architecture

PROJECT = Path(__file__).parents[2]
# The command's own application, but for the folder that it writes into.
APPLICATION = """
from tumorapp import create_app

def make():
    app = create_app({{"MODELS_DIR": {models!r}}})
    app.instance_path = {instance!r}
    return app
"""

Run = Callable[..., Result]
Grow = Callable[..., Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, grow_tree: Grow) -> Path:
    root = tmp_path_factory.mktemp("cli") / "heads"
    return grow_tree(root, {"no_tumor": 16, "Brain Tumor": 16})


def test_help_says_which_heads_are_published(run: Run) -> None:
    words = " ".join(run("train", "--help").output.split())
    assert "svm, a linear support vector machine, are published as a bundle; knn, " in words


def assert_one_message(result: Result, expected: str) -> None:
    """Assert that a person is told what is wrong, and nothing of where in the code."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    message = result.stderr[result.stderr.index("Error: ") :]
    assert expected in message


SMALL_CNN = "cnn-3-conv-32-nodes-0-dense"
FEW = ["--exclude", "heads/no_tumor/1*", "--exclude", "heads/no_tumor/[2-6].png"]


class TestWrongTraining:
    @pytest.mark.parametrize(
        ("model", "options", "expected"),
        [
            ("resnet-50", [], "Unknown model 'resnet-50'. Did you mean resnet50 or resnet18"),
            ("xyz", [], "Unknown model 'xyz'. `flask models architectures` lists all "),
            ("mobilenet-v2", ["--head", "svm"], "add --method frozen, or leave out --head."),
            ("binary-cnn", ["--method", "frozen"], "binary-cnn is trained from scratch"),
            (SMALL_CNN, ["--size", "16"], "16 × 16 pixels. Choose a larger --size; its own is "),
            ("binary-cnn", ["--weights", __file__], "so it takes no weights file."),
            ("mobilenet-v2", ["--size", "32", "--weights", __file__], "not hold weights of Mobile"),
            ("binary-cnn", ["--exclude", "heads/yes/*"], "The exclude pattern 'heads/yes/*' match"),
            ("binary-cnn", FEW, "There are too few scans to divide"),
            ("binary-cnn", ["--protocol", "official"], "needs a Training and a Testing folder"),
        ],
    )
    def test_what_is_refused(
        self, run: Run, data: Path, model: str, options: list[str], expected: str
    ) -> None:
        assert_one_message(run("train", "--model", model, "--data", data, *options), expected)

    def test_a_backend_that_is_none(
        self, run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KERAS_BACKEND", "nonsense")
        result = run("train", "--model", "binary-cnn", "--data", data)
        assert_one_message(result, "Set it to tensorflow, jax or torch, or unset it.")

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            (None, "nowhere does not exist.\nExpected a folder for each class"),
            ([], "No labelled image in"),
            (["1.jpg", "2.jpg"], "one folder for each class, such as glioma/1.jpg and notumor/2"),
            (["no/1.jpg", "no/2.jpg"], "Only one class, 'notumor' (2 images)"),
            (["yes/1.jpg", "no/1.jpg"], "no/1.jpg: The file is not an image that can be read."),
        ],
    )
    def test_folders_that_are_refused(
        self, run: Run, tmp_path: Path, files: list[str] | None, expected: str
    ) -> None:
        folder = tmp_path / "nowhere"
        for name in files or ():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("no image")
        if files is not None:
            folder.mkdir(exist_ok=True)
        assert_one_message(run("train", "--model", "binary-cnn", "--data", folder), expected)

    def test_a_folder_that_cannot_be_written(self, run: Run, data: Path, tmp_path: Path) -> None:
        (tmp_path / "instance").write_text("a file in the way")
        result = run("train", "--model", "binary-cnn", "--data", data)
        assert_one_message(result, "Make room or change the folder")

    @pytest.mark.parametrize(
        "option",
        [
            ["--size", "5"],
            ["--learning-rate", "inf"],
            ["--augmentation", "nan"],
            ["--mixup", "nan"],
            ["--variants", "22"],
            ["--weights", "nowhere.h5"],
        ],
    )
    def test_a_value_that_is_not_accepted(self, run: Run, data: Path, option: list[str]) -> None:
        result = run("train", "--model", "binary-cnn", "--data", data, *option)
        assert result.exit_code == 2
        assert f"Invalid value for '{option[0]}'" in result.stderr

    def test_without_data(self, run: Run) -> None:
        result = run("train", "--model", "binary-cnn")
        assert result.exit_code == 2
        assert "Missing option '--data'" in result.stderr


class TestData:
    def test_audit_describes_the_scans(self, run: Run, data: Path) -> None:
        result = run("data", "audit", data)
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        assert lines[:2] == ["notumor: 16 scans", "tumor: 16 scans"]
        assert lines[2].startswith("32 scans form ")
        assert "0 scans cannot be read." in lines

    def test_audit_writes_a_page_and_a_manifest_that_trains(
        self, run: Run, data: Path, tmp_path: Path
    ) -> None:
        page, manifest = tmp_path / "audit.html", tmp_path / "scans.csv"
        result = run("data", "audit", data, "--html", page, "--manifest", manifest)
        assert result.exit_code == 0, result.output
        assert f"The page is {page}." in result.stdout
        assert "<h1>Audit of heads</h1>" in page.read_text(encoding="utf-8")
        kept = manifest.read_text(encoding="utf-8").replace(",0\n", ",1\n")
        manifest.write_text(kept + "gone.png,notumor,99,,1\n", encoding="utf-8")
        train = ("train", "--model", "ann-32-nodes-0-dense", "--manifest", manifest)
        assert_one_message(run(*train), "1 rows that name a file that is not there:\n  line 34")
        manifest.write_text(kept, encoding="utf-8")
        result = run(*train, "--epochs", 1, "--size", 32, "--no-publish")
        assert result.exit_code == 0, result.output
        assert "tumor: 16 scans" in result.stdout

    def test_audit_of_folders_with_names_of_their_own(
        self, run: Run, tmp_path: Path, grow_tree: Grow
    ) -> None:
        grow_tree(tmp_path / "klinik", {"Gliom": 3, "gesund": 3})
        told = ("--class", "Gliom=glioma", "--tumor-free", "gesund")
        result = run("data", "audit", tmp_path / "klinik", *told)
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[:2] == ["glioma: 3 scans", "notumor: 3 scans"]

    def test_audit_into_a_folder_that_is_not_there(self, run: Run, data: Path) -> None:
        result = run("data", "audit", data, "--html", "nowhere/a.html")
        assert_one_message(result, "no folder nowhere to write a.html into. Make it first.")

    def test_audit_of_loose_images(self, run: Run, tmp_path: Path, grow_tree: Grow) -> None:
        grow_tree(tmp_path, {"scans": 3})
        result = run("data", "audit", tmp_path / "scans")
        assert_one_message(result, "Images must lie in one folder for each class, such as glioma/1")

    def test_audit_of_nothing(self, run: Run, tmp_path: Path) -> None:
        assert_one_message(run("data", "audit", tmp_path), "No labelled image in")

    def test_fetch_of_an_unknown_set(self, run: Run) -> None:
        result = run("data", "fetch", "nowhere")
        assert_one_message(result, "nowhere")
        assert "nickparvar" in result.stderr


def read_configuration(result: Result) -> dict[str, Any]:
    """Read what a run that only wrote a report was trained by."""
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("Report: ")]
    run = Path(line.removeprefix("Report: ")).parents[1]
    configuration: dict[str, Any] = json.loads((run / "configuration.json").read_text())
    return configuration


class TestTraining:
    @pytest.mark.slow
    def test_options_of_a_file_and_of_the_command_line(
        self, run: Run, data: Path, tmp_path: Path
    ) -> None:
        """They ask for a report alone."""
        (tmp_path / "own.yaml").write_text(
            f"model: ann-32-nodes-0-dense\ndata: [{data}]\nsize: 32\nepochs: 9\n"
            "learning-rate: 2e-3\nbalanced: true\nvariants: 5\nno-publish: true\n"
        )
        options = ["--epochs", "1", "--unbalanced", "--variants", "2"]
        result = run("train", "--config", tmp_path / "own.yaml", *options)
        configuration = read_configuration(result)
        own = replace(
            architecture("ann-32-nodes-0-dense").recipe,
            epochs=1,
            learning_rate=2e-3,
            balanced=False,
            variants=2,
        )
        assert configuration["recipe"] == asdict(own)
        assert (configuration["size"], configuration["weights"]) == (32, None)
        assert (configuration["method"], configuration["head"]) == ("fine-tune", "softmax")
        assert "published" not in result.stdout.lower()
        assert result.stdout.splitlines()[-1].startswith("To publish it: flask ")
        assert result.stdout.endswith(" --publish\n")
        assert not (tmp_path / "models").exists()
        (report,) = (tmp_path / "instance/runs").glob("*/report/README.md")
        page = report.read_text(encoding="utf-8")
        assert page.startswith("# ann-32-nodes-0-dense\n")
        assert "published" not in page.lower()

    @pytest.mark.slow
    def test_neighbours_on_a_frozen_backbone(self, run: Run, data: Path, tmp_path: Path) -> None:
        """What a frozen backbone cannot follow is not written down as if it had."""
        options = ["--weights", "none", "--size", "32", "--method", "frozen", "--head", "knn"]
        varied = ["--variants", "3", "--normalisation", "pytorch", "--unbalanced"]
        result = run("train", "--model", "vgg16", "--data", data, *options, *varied)
        configuration = read_configuration(result)
        assert (configuration["method"], configuration["head"]) == ("frozen", "knn")
        recipe = configuration["recipe"]
        assert (recipe["augmentation"], recipe["variants"]) == (0, 0)
        assert (recipe["normalisation"], recipe["balanced"]) == ("kept", False)
        assert "Nearest neighbours are not a network" in result.stdout
        assert not (tmp_path / "models").exists()

    @pytest.mark.slow
    def test_killed_and_typed_again(
        self, run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = ["--size", "32", "--epochs", "6", "--augmentation", "0"]
        command = ["train", "--model", "binary-cnn", "--data", str(data), *options]
        application, log = tmp_path / "application.py", tmp_path / "log"
        application.write_text(
            APPLICATION.format(models=str(tmp_path / "models"), instance=str(tmp_path / "instance"))
        )
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "flask", "--app", f"{application}:make", *command],
                env=environment,
                cwd=tmp_path,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            kept = wait_for_epochs(process, tmp_path / "instance", 2)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert 2 <= kept < 6, log.read_text()
        assert "absl" not in log.read_text()  # nor any other line of TensorFlow's log
        assert installed_versions(tmp_path / "models") == {}

        monkeypatch.setattr("training.refuse._DRAWN", 98)
        monkeypatch.setattr(sys, "argv", ["flask", *command])
        done = run(*command)
        assert done.exit_code == 0, done.output
        epochs = [line for line in done.stdout.splitlines() if line.startswith("Epoch ")]
        first = int(epochs[0].split()[1].partition("/")[0])
        assert kept < first <= kept + 2  # one more may have been kept before the kill
        assert epochs == [f"Epoch {number}/6" for number in range(first, 7)]
        assert f"Resuming after epoch {first - 1}.\nEpoch " in done.stdout

        bundle = tmp_path / "models/binary-cnn/1"
        card = read_bundle(bundle)
        assert card.training.epochs == 6
        assert card.training.command == shlex.join(["flask", *command])
        accuracy = f"accuracy {card.measurement.accuracy:.4f} (95 % interval"
        assert accuracy in done.stdout
        [plots] = (tmp_path / "instance/runs").glob("*/plots.html")
        assert done.stdout.splitlines()[-5:-1] == [
            f"Report: {bundle / 'report/README.md'}",
            f"Plots: {plots}",
            f"Published: {bundle}",
            "A running service follows within seconds, without a restart.",
        ]
        assert "flask models quantize binary-cnn, " in done.stdout.splitlines()[-1]

    def test_interrupted(self, run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("training.pipeline.train", interrupt)
        result = run("train", "--model", "binary-cnn", "--data", data)
        assert result.exit_code == 130
        assert "Stopped. The same command, without --fresh, continues after " in result.stderr


def wait_for_epochs(process: subprocess.Popen[bytes], instance: Path, wanted: int) -> int:
    """Wait until a run has kept so many epochs; give how many they are."""
    while process.poll() is None:
        for state in instance.glob("runs/*/state.json"):
            kept = len(json.loads(state.read_text(encoding="utf-8"))["history"])
            if kept >= wanted:
                return kept
        time.sleep(0.02)
    return 0


def test_a_set_without_a_healthy_class_is_not_published(
    run: Run, tmp_path: Path, grow_tree: Grow
) -> None:
    grow_tree(tmp_path / "heads", {"Gliom": 2, "Meningeom": 2, "gesund": 2})
    command = ("train", "--model", "ann-32-nodes-0-dense", "--data", tmp_path / "heads")
    refused = run(*command)
    assert refused.exit_code == 1
    assert "known to be healthy: Gliom, Meningeom, gesund" in refused.output
    assert "--tumor-free NAME" in refused.output
    slip = run(*command, "--tumor-free", "gesundd")
    assert "No folder or class is called gesundd" in slip.output
    with pytest.MonkeyPatch.context() as patch:
        seen: list[Any] = []

        def stop(request: Any, tell: Any) -> Any:
            seen.append(set_task(read_trees(request.data), binary=False).classes)
            raise ValueError("enough")

        patch.setattr("training.pipeline.train", stop)
        run(*command, "--tumor-free", "gesund", "--class", "Gliom=glioma")
        run(*command, "--tumor-free", "none")
        run(*command, "--no-publish")
    own = ("Gliom", "Meningeom", "gesund")
    assert seen == [("Meningeom", "glioma", "notumor"), own, own]
