"""The transcription of the documents' tables, and what the study makes of a row."""

from collections import Counter
from pathlib import Path

import pytest

from training.models import Recipe, WeightsError, architecture, architectures
from training.study.documents import DOCUMENTS
from training.study.plan import Plan, build_request, find_weights
from training.study.rows import Row, choose_rows, read_rows

SOURCES = Path(__file__).parents[2] / "../shared/sources"


def find_row(slug: str) -> Row:
    (row,) = choose_rows("all", [slug])
    return row


def plan(slug: str, **options: object) -> Plan:
    arguments = {"budget": "full", "instance": Path("i"), "study": Path("s"), **options}
    return Plan(find_row(slug), **arguments)  # type: ignore[arg-type]


def test_every_row_of_every_table_is_there() -> None:
    assert Counter(row.document for row in read_rows()) == {
        "000": 2 * (9 + 3) + 27 + 9 + 5,  # scaled and raw; three that the text reads otherwise
        "001": 4 + 8 + 3,
        "002": 7 * 2 + 2 + 4,
        "004": 1,
        "beyond": 4,
    }
    families = Counter(row.model.partition("-")[0] for row in choose_rows("000"))
    assert (families["ann"], families["cnn"]) == (24, 36)
    measured = {
        (row.document, row.name, row.method) for row in read_rows() if row.published.accuracy
    }
    assert Counter(document for document, *_ in measured) == {"000": 41 - 1, "001": 10, "002": 14}


def test_rows_are_told_apart() -> None:
    assert len({row.slug for row in read_rows()}) == len(read_rows())
    assert {row.document for row in read_rows()} == set(DOCUMENTS)


@pytest.mark.parametrize(
    ("slug", "accuracy", "loss", "f1"),
    [
        ("000-ann-128-nodes-0-dense", 0.78, 181.14, 0.78),
        ("000-ann-64-nodes-2-dense", 0.24, 1.3, 0.10),
        ("000-cnn-3-conv-128-nodes-1-dense", 0.90, 0.43, 0.91),
        ("000-cnn-2-conv-64-nodes-1-dense", 0.88, 0.48, 0.89),
        ("000-cnn-3-conv-64-nodes-1-dense", 0.88, 0.54, 0.89),
        ("000-cnn-1-conv-128-nodes-2-dense", 0.24, 0.0, 0.10),
        ("000-vgg16", 0.94, 0.81, 0.94),
        ("000-mobilenet-v2", 0.37, 1.73, 0.30),
        ("001-sequential-4", 0.9207, 0.2004, None),
        ("001-efficientnet-b1", 0.9977, 0.0139, None),
        ("001-efficientnet-b7", None, None, None),
        ("002-resnet18", 0.9786, None, 0.98),
        ("002-densenet121-frozen", 0.9158, None, 0.92),
        ("002-vgg16", 0.8652, None, None),
        ("002-mobilenet-v2-frozen-svm", None, None, None),
        ("004-binary-cnn", None, None, None),
    ],
)
def test_figures_are_the_printed_ones(
    slug: str, accuracy: float | None, loss: float | None, f1: float | None
) -> None:
    published = find_row(slug).published
    assert (published.accuracy, published.loss, published.f1) == (accuracy, loss, f1)


def test_document_002_prints_more() -> None:
    published = find_row("002-shufflenet-v2").published
    assert (published.best_accuracy, published.seconds_per_epoch) == (0.9832, 6.58)


@pytest.mark.skipif(not SOURCES.exists(), reason="the documents are not here")
def test_document_000_prints_these_very_lines() -> None:
    (text,) = [path.read_text(encoding="utf-8") for path in SOURCES.glob("000_*.txt")]
    printed = [line.split("\t") for line in text.splitlines()]
    for row in choose_rows("000"):
        lines = [[float(cell) for cell in line[1:]] for line in printed if line[0] == row.name]
        figures = [[accuracy / 100, loss, f1 / 100] for accuracy, loss, f1 in lines]
        wanted = [getattr(row.published, name) for name in ("accuracy", "loss", "f1")]
        assert wanted in figures, row.name


def test_oddities_are_noted() -> None:
    twice = [row for row in choose_rows("000") if row.name == "2-conv-64-nodes-1-dense"]
    assert [row.model[:10] for row in twice] == ["cnn-2-conv", "cnn-3-conv"]
    assert "second 2-conv" in twice[1].note
    assert "0.00" in find_row("000-cnn-1-conv-128-nodes-2-dense").note


def test_every_architecture_can_be_trained() -> None:
    known = architectures()
    for row in read_rows():
        assert row.model in known, row.slug
        assert row.method == "fine-tune" or known[row.model].pretrained, row.slug


def test_rows_are_chosen_by_pattern() -> None:
    assert len(choose_rows("000", ["cnn-1-conv-*-dense"])) == 9
    assert len(choose_rows("002", ["*frozen*"])) == 7 + 2 + 3
    assert [row.model for row in choose_rows("all", ["VGG19", "Sequential 1"])] == [
        "vgg19",
        "sequential-1",
    ]
    with pytest.raises(ValueError, match=r"No row of 004 matches 'vgg16'\. Its rows: 004"):
        choose_rows("004", ["vgg16"])


def test_a_plan_is_named_by_what_tells_its_results_apart() -> None:
    slug = "000-cnn-1-conv-32-nodes-0-dense"
    assert plan(slug, budget="reduced").id == f"{slug}-reduced-random-75-25"
    assert plan(slug, protocol="grouped").id == f"{slug}-full-grouped"
    data = (Path("a/sartaj"), Path("Scans of Ours/"))
    assert plan(slug, data=data).id == f"{slug}-full-random-75-25-on-sartaj-scans-of-ours"
    assert plan(slug, data=data[:1]).id == plan(slug).id
    plans = [Plan(row, "full", Path(), Path()).id for row in read_rows()]
    assert len(set(plans)) == len(plans)


def test_the_full_budget_is_the_documents_own() -> None:
    request = build_request(plan("002-mobilenet-v2", weights="none"))
    assert (request.size, request.protocol, request.method) == (224, "random-80-20", "fine-tune")
    assert request.recipe == Recipe(
        epochs=100,
        batch=32,
        learning_rate=1e-3,
        weight_decay=0,
        average=0,
        label_smoothing=0,
        patience=20,  # chosen here
        augmentation=0,
        every_copy=True,
        balanced=False,
        normalisation="pytorch",
        schedule="constant",
    )
    assert (request.publish, request.precision) == (False, "float32")
    ann = plan("000-ann-32-nodes-0-dense")
    assert build_request(ann).recipe.variants == 21
    assert [folder.name for folder in ann.data] == ["sartaj"]
    assert build_request(plan("001-sequential-2")).recipe.epochs == 60


def test_the_reduced_budget_is_smaller_and_the_own_one_the_architectures() -> None:
    reduced = build_request(plan("000-ann-32-nodes-0-dense", budget="reduced"))
    assert (reduced.size, reduced.recipe.epochs, reduced.recipe.variants) == (128, 25, 1)
    assert build_request(plan("004-binary-cnn", budget="reduced")).size == 96  # its own
    unvaried = build_request(plan("000-ann-32-nodes-0-dense", budget="unvaried"))
    assert (unvaried.size, unvaried.recipe.variants, unvaried.recipe.patience) == (224, 0, 50)
    cnn = build_request(plan("000-cnn-1-conv-32-nodes-0-dense", budget="unvaried"))
    assert cnn.recipe.patience == 5
    network = architecture("mobilenet-v2")
    own = build_request(plan("002-mobilenet-v2", budget="own"))
    assert (own.recipe, own.size) == (network.recipe, network.size)


def test_weights_are_found_by_their_published_names(tmp_path: Path) -> None:
    names = {
        "mobilenet-v2": "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        "vgg16": "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "inception-v3": "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "efficientnet-b0": "efficientnetb0_notop.h5",
        "efficientnetv2-b0": "efficientnetv2-b0_notop.h5",
        "convnext-tiny": "convnext_tiny_notop.h5",
        "resnet18": "resnet18-f37072fd.pth",
        "shufflenet-v2": "shufflenetv2_x1-5666bf0f80.pth",
    }
    for file in (*names.values(), "README.md"):
        (tmp_path / file).touch()
    for name, file in names.items():
        assert find_weights(str(tmp_path), name) == str(tmp_path / file)
    assert find_weights("imagenet", "vgg16") == "imagenet"
    assert find_weights("none", "vgg16") is None
    with pytest.raises(WeightsError, match=r"must begin with vgg19, .* Found: none"):
        find_weights(str(tmp_path), "vgg19")
    (tmp_path / "VGG16 of mine.h5").touch()
    with pytest.raises(WeightsError, match=r"Found: VGG16 of mine\.h5, vgg16_weights"):
        find_weights(str(tmp_path), "vgg16")
