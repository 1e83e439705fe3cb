"""The whole way from folders of scans to a bundle, on phantoms and at a small size."""

import fcntl
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from brainscan.bundle import Card, Leaks, Parts, Refusal, read_bundle
from brainscan.bundle.manifest import read_manifest
from brainscan.familiarity import Familiarity
from brainscan.scan import ScanSpecification, read_scan
from tests.training.conftest import run_graph
from training.data.split import split_scans
from training.models import Recipe
from training.pipeline import TrainingOutcome, load, train
from training.run import RunBusyError, TrainingRequest, find_run

pytestmark = pytest.mark.usefixtures("few_pictures")
RECIPE = Recipe(epochs=2, batch=8, augmentation=0, average=0.8)


def make_request(instance: Path, *data: Path, **changes: object) -> TrainingRequest:
    request = TrainingRequest(
        model="binary-cnn",
        data=data,
        instance=instance,
        models=instance / "models",
        protocol="grouped",
        recipe=RECIPE,
        size=32,
        command="flask train --model binary-cnn",
    )
    return replace(request, **changes)


@dataclass(frozen=True)
class Training:
    """A training that came to its end."""

    request: TrainingRequest
    outcome: TrainingOutcome
    card: Card


@pytest.fixture(scope="module")
def training(
    tmp_path_factory: pytest.TempPathFactory, phantom_tree: Path, few_pictures: None
) -> Training:
    """A training on a tree with everything that real ones have: copies, specks and bad files."""
    base = tmp_path_factory.mktemp("pipeline")
    tree = Path(shutil.copytree(phantom_tree, base / "preetviradiya"))
    for number in range(6):
        picture = cv2.imread(str(tree / f"Healthy/{number}.png"), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(tree / f"Healthy/mirrored {number}.png"), picture[:, ::-1])
    shutil.copy(tree / "Healthy/19.png", tree / "Brain Tumor/mislabelled.png")
    (tree / "Healthy/notes.png").write_text("no image")
    speck = Image.new("L", (100, 100))
    speck.paste(255, (40, 40, 55, 55))
    speck.save(tree / "Brain Tumor/speck.png")
    (tree / "pred").mkdir()
    shutil.copy(tree / "Healthy/0.png", tree / "pred/0.png")
    request = make_request(base / "instance", tree)
    outcome = train(request)
    assert outcome.bundle is not None
    return Training(request, outcome, read_bundle(outcome.bundle))


def test_a_bundle_is_published(training: Training) -> None:
    card = training.card
    assert training.outcome.bundle == training.request.models / "binary-cnn/1"
    assert card.classes == ("healthy", "tumor")
    assert card.scan == ScanSpecification(32)
    assert card.feature_layer == "conv_2"
    assert card.parameters > 50_000
    assert [source.title for source in card.sources] == ["Brian Tumor Dataset"]
    assert card.training.command == "flask train --model binary-cnn"
    assert card.training.planned_epochs == card.training.epochs == 2
    files = read_manifest(training.outcome.bundle).keys()
    assert {"card.json", "model.keras", "graph.xml", "graph.bin", "report/README.md"} <= files


def test_the_measures_are_of_the_test_part(training: Training) -> None:
    measured = training.card.measurement
    assert measured.protocol == "grouped"
    # 20 healthy heads, 6 of them twice; 20 with a tumour, and a speck; one pair contradicts.
    assert sum(asdict(measured.parts).values()) == 46 - 1 + 1
    assert measured.scans == measured.parts.test
    assert np.sum(measured.confusion) == measured.scans
    assert measured.leaks == Leaks(0, None, measured.accuracy)
    for figures in (measured.by_source, measured.by_plane):
        assert sum(one.scans for one in figures.values()) == measured.scans
    assert measured.seconds_per_epoch > 0
    assert training.card.graph_difference <= 1e-3
    saved = Card.from_json((training.outcome.run / "card.json").read_text(encoding="utf-8"))
    assert saved.measurement == measured


def test_thresholds_and_refusal_are_chosen_measured_and_published(training: Training) -> None:
    card, measured = training.card, training.card.measurement
    assert 0 < card.decision.tumor_from < 1
    assert card.decision.kind_from == {}
    assert 0 <= measured.decision.tumor_roc_auc <= 1
    assert card.refusal == Refusal(1.0)
    assert {"text", "noise", "photograph"} <= set(measured.refusal.pictures)
    assert training.outcome.bundle is not None
    known = Familiarity.read(training.outcome.bundle)
    scan = read_scan((training.request.data[0] / "Healthy/3.png").read_bytes(), card.scan)
    outputs = run_graph(training.outcome.bundle, scan.pixels[np.newaxis])
    assert known.measure(outputs["features"]).shape == (1,)
    page = (training.outcome.bundle / "report/README.md").read_text(encoding="utf-8")
    assert "Tumour or none, from a probability of" in page
    assert "of the kind photograph" in page


def test_what_was_left_out_is_listed_in_card_and_report(training: Training) -> None:
    described = training.card.training
    assert described.contradictions == (
        "preetviradiya/Brain Tumor/mislabelled.png",
        "preetviradiya/Healthy/19.png",
    )
    assert described.uncropped == ("preetviradiya/Brain Tumor/speck.png",)
    (skipped,) = described.skipped
    assert skipped.startswith("preetviradiya/Healthy/notes.png: The file is not an image")
    assert "pred' (1 images)" in described.notes[0]
    assert training.outcome.bundle is not None
    for folder in (training.outcome.bundle, training.outcome.run):
        page = (folder / "report/README.md").read_text(encoding="utf-8")
        for name in ("mislabelled.png", "speck.png", "notes.png", "pred' (1 images)"):
            assert name in page, folder


def test_the_graph_answers_for_a_scan_as_it_is_served(training: Training) -> None:
    assert training.outcome.bundle is not None
    path = training.request.data[0] / "Healthy/3.png"
    scan = read_scan(path.read_bytes(), training.card.scan)
    outputs = run_graph(training.outcome.bundle, scan.pixels[np.newaxis])
    assert outputs["probabilities"].shape == (1, 2)
    assert outputs["heatmap"].shape == (1, 8, 8)


def test_the_run_keeps_its_history_and_configuration(training: Training) -> None:
    run = training.outcome.run
    assert run.parent == training.request.instance / "runs"
    configuration = json.loads((run / "configuration.json").read_text())
    assert configuration["model"] == "binary-cnn"
    assert configuration["parts"] == asdict(training.card.measurement.parts)
    assert configuration["manifest"] == training.card.training.manifest
    assert len((run / "history.csv").read_text().splitlines()) == 3
    assert any((run / "tensorboard").rglob("events.out.tfevents.*"))


def test_a_run_is_published_once(training: Training) -> None:
    told: list[str] = []
    outcome = train(training.request, told.append)
    assert (outcome.run, outcome.bundle) == (training.outcome.run, training.outcome.bundle)
    assert outcome.card == training.card
    assert [path.name for path in (training.request.models / "binary-cnn").iterdir()] == ["1"]
    assert told[-1].startswith("This run has been published already; --fresh trains it again")


def test_a_worse_model_is_published_only_when_asked(
    training: Training, tmp_path: Path, publish_model: Callable[..., Path]
) -> None:
    """The served one was measured on the same test scans."""
    served = replace(training.card.measurement, accuracy=1.0)
    publish_model(tmp_path, "binary-cnn", training=training.card.training, measurement=served)
    recipe = replace(RECIPE, epochs=1, learning_rate=1e-6)
    request = replace(training.request, recipe=recipe, models=tmp_path, publish=None)
    told: list[str] = []
    held = train(request, told.append)
    assert held.bundle is None
    accuracy = held.card.measurement.accuracy
    assert told[-1] == (
        "On the same test scans, version 1, which is served, has an accuracy of 1.0000, this model "
        f"of {accuracy:.4f}."
    )
    page = (held.run / "report/README.md").read_text(encoding="utf-8")
    assert page.startswith("# binary-cnn\n")
    assert "published" not in page.lower()
    trained = (held.run / "state.json").stat().st_mtime_ns
    told.clear()
    outcome = train(replace(request, publish=True), told.append)  # goes on with the same run
    assert outcome.bundle == tmp_path / "binary-cnn/2"
    assert (outcome.run, outcome.card.measurement.accuracy) == (held.run, accuracy)
    assert (outcome.run / "state.json").stat().st_mtime_ns == trained
    parts = outcome.card.measurement.parts
    protocol = f"Protocol grouped: {parts.train} train, {parts.validation} validation"
    assert told[0] == "healthy: 25 scans"
    assert any(line.startswith(protocol) for line in told)
    assert "Resuming after epoch 1." in told
    assert told[-1] == "Calibrating, measuring on the test part and writing the report."


def test_a_run_is_trained_by_one_process_at_a_time(training: Training) -> None:
    with (training.outcome.run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunBusyError, match="Another process is training this run"):
            train(training.request)


def test_tumours_without_a_name_teach_and_are_counted(
    tmp_path: Path, grow_tree: Callable[..., Path]
) -> None:
    named = grow_tree(tmp_path / "named", {"glioma": 24, "meningioma": 24, "no": 24}, seed=1)
    nameless = grow_tree(tmp_path / "nameless", {"yes": 24}, seed=2)
    told: list[str] = []
    model = "cnn-1-conv-32-nodes-0-dense"
    request = make_request(tmp_path, named, nameless, model=model, publish=False)
    card = train(request, told.append).card
    assert card.classes == ("glioma", "meningioma", "notumor")
    assert card.measurement.parts == Parts(54, 7, 11)
    assert card.training.classes == {"glioma": 24, "meningioma": 24, "notumor": 24}
    assert any("24 further scans show a tumour" in line for line in told)
    found = card.measurement.unnamed_tumors
    assert found.scans == 4
    assert 0 <= found.recognized <= 1
    (run,) = (tmp_path / "runs").iterdir()
    report = (run / "report/README.md").read_text(encoding="utf-8")
    assert "4 further test scans (4 near-duplicate groups) show a tumour" in report
    other = replace(request, data=(named,))
    assert find_run(other, split_scans(load(other), "grouped", 0)).folder != run


def test_what_is_served_can_be_trained_again_on_all_scans(
    training: Training, tmp_path: Path
) -> None:
    """Under a protocol that leaks: the figures, and how much they leak, are of the first model."""
    recipe = replace(RECIPE, schedule="cosine")
    request = replace(training.request, recipe=recipe, protocol="random-80-20", seed=1)
    served = train(replace(request, models=tmp_path, refit=True))
    assert served.card.training.refit
    measured = Card.from_json((served.run / "card.json").read_text(encoding="utf-8")).measurement
    assert served.card.measurement == measured
    first, second = (
        (run / "history.csv").read_text(encoding="utf-8").splitlines()
        for run in (served.run, served.run / "refit")
    )
    assert len(first) == len(second)
    assert first[1:] != second[1:]
    assert measured.leaks.scans > 0
    assert 0 <= measured.leaks.accuracy_with <= 1
    page = (served.run / "report/README.md").read_text(encoding="utf-8")
    assert f"- {measured.leaks.scans} test scans have a near-duplicate in the training or" in page
    plain = train(replace(request, models=tmp_path))  # the same run, served as it was measured
    assert (plain.run, plain.card.training.refit, plain.card.version) == (served.run, False, 2)


def test_a_network_that_stops_early_cannot_be_trained_on_all_scans(training: Training) -> None:
    with pytest.raises(ValueError, match="its validation part decides when it ends"):
        train(replace(training.request, refit=True))
