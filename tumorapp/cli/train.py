"""`flask train`: a model from labelled scans to a published bundle."""

import difflib
import math
import shlex
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from flask import current_app

from brainscan.bundle.protocols import PROTOCOLS
from tumorapp.cli.backend import Weights, check_backend, load_backend, stoppable
from tumorapp.cli.configuration_file import config_option
from tumorapp.cli.installed import describe_change
from tumorapp.cli.own_classes import own_classes_options
from tumorapp.cli.remote import publishing_root

if TYPE_CHECKING:
    from training.data.folders import ScanTree
    from training.models import Architecture
    from training.pipeline import TrainingOutcome
    from training.run import TrainingRequest

_EXAMPLES = """
\b
Examples:
  flask train --model binary-cnn --data instance/data/preetviradiya
  flask train --model mobilenet-v2 --data instance/data/nickparvar --protocol official
  flask train --model mobilenet-v2 --data instance/data/nickparvar \\
      --data instance/data/sartaj --exclude 'sartaj/*/glioma_tumor/*'
  flask train --model mobilenet-v2 --data instance/data/nickparvar --method frozen
  flask train --model mobilenet-v2 --manifest instance/scans.csv
  flask train --model cnn-3-conv-64-nodes-1-dense --data meine-bilder --class Gliom=glioma \\
      --tumor-free gesund
  flask train --config instance/mobilenet.yaml --epochs 5
  KERAS_BACKEND=jax flask train --model mobilenet-v2 --data instance/data/nickparvar
"""


class _FiniteRange(click.FloatRange):
    """Numbers between bounds. To click NaN is in every range, as it is neither below nor above."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


@click.command("train", epilog=_EXAMPLES)
@config_option()
@click.option("--model", required=True, help="Architecture, such as binary-cnn or lesion-lite0.")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder with a subfolder for each class; repeat the option to merge sets.",
)
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Train on the scans that this table of `flask data audit --manifest` keeps, with its "
    "labels; --data may then be left out.",
)
@click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    default="grouped",
    show_default=True,
    help="How scans are divided: the set's own folders; at random, as papers do, with leaks; "
    "with near-duplicates kept together; with the slices of a patient kept together, where the "
    "data says whose they are; or with the last --data folder to test on.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave out scans whose FOLDER/PATH matches, such as 'sartaj/*/glioma_tumor/*'.",
)
@own_classes_options
@click.option(
    "--refuse",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder of pictures that are not MRI slices of a head, such as CT, to learn to refuse; "
    "repeat the option for more. Photographs, drawings and noise are made up in any case.",
)
@click.option(
    "--method",
    type=click.Choice(["fine-tune", "frozen"]),
    default="fine-tune",
    show_default=True,
    help="fine-tune: every layer trains. frozen: only the head of a pretrained model, on features "
    "computed once, so without augmentation and variants.",
)
@click.option(
    "--head",
    type=click.Choice(["softmax", "svm", "knn"]),
    default="softmax",
    show_default=True,
    help="With --method frozen: softmax, the network's own head, and svm, a linear support vector "
    "machine, are published as a bundle; knn, nearest neighbours, gives a report only.",
)
@click.option(
    "--epochs", type=click.IntRange(1), help="At most so many epochs; part of a run's identity."
)
@click.option("--batch", type=click.IntRange(1), help="Scans in a step.")
@click.option("--learning-rate", type=_FiniteRange(0, min_open=True), help="At the start.")
@click.option("--weight-decay", type=_FiniteRange(0), help="Of AdamW.")
@click.option(
    "--label-smoothing",
    type=_FiniteRange(0, 1, max_open=True),
    help="How much of the target's certainty is spread over all classes.",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    help="Epochs without progress before the end; without effect on a cosine.",
)
@click.option("--augmentation", type=_FiniteRange(0, 3), help="Strength, 0 to 3; 1 is usual.")
@click.option(
    "--variants",
    type=click.IntRange(0, 21),
    help="Of document 000's 21 variants of a scan, how many an epoch shows; 0: the scan itself.",
)
@click.option("--mixup", type=_FiniteRange(0), help="Blend the scans of a batch; 0: off.")
@click.option(
    "--every-copy/--thin-copies",
    default=None,
    help="Train on every scan in each epoch, or on the square root of each near-duplicate group.",
)
@click.option(
    "--normalisation",
    type=click.Choice(["kept", "keras", "pytorch"]),
    help="Whether a pretrained network's batch normalisation keeps ImageNet's statistics, or "
    "learns its own with the momentum of Keras or of PyTorch.",
)
@click.option(
    "--balanced/--unbalanced",
    default=None,
    help="Whether every class weighs the same in the loss, however many scans it has.",
)
@click.option("--size", type=click.IntRange(16, 1024), help="Width and height of the input.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--weights",
    type=Weights(exists=True, dir_okay=False),
    default="imagenet",
    show_default=True,
    metavar="imagenet|none|FILE",
    help="What a pretrained network starts from; Keras downloads ImageNet's.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "mixed_float16", "mixed_bfloat16"]),
    default="auto",
    show_default=True,
    help="auto: mixed_float16 on a GPU, float32 on a CPU.",
)
@click.option(
    "--refit",
    is_flag=True,
    help="Once it is measured, train it again in the same way on all scans, those of the test part "
    "too, and publish that one. For models whose learning rate follows a cosine.",
)
@click.option(
    "--publish/--no-publish",
    default=None,
    help="Publish the model as a bundle, or only write its report. By default it is published "
    "unless it is worse than the version that is served: less accurate on the same test scans; "
    "or, where that version was tested on others, under a protocol as strict, so much less "
    "accurate that the 95 % intervals do not overlap.",
)
@click.option(
    "--fresh", is_flag=True, help="Start from scratch instead of continuing an interrupted run."
)
def train_command(
    model: str, data: tuple[Path, ...], exclude: tuple[str, ...], weights: str, **options: Any
) -> None:
    """Train MODEL on folders of scans, measure it once on its test part, and publish it.

    The same command continues where it was stopped; with --publish, it also publishes a model that
    was not published. Settings that you leave out are the architecture's own.
    """
    check_backend()
    trees = read_data(data, exclude, options["manifest"])
    load_backend()  # here, so that no other command waits for TensorFlow and scikit-learn
    from training.pipeline import train

    network = find_architecture(model)
    if options["publish"] is not False and not options["tumor_free"]:
        _check_healthy(trees, network)
    request = build_request(network, options, data=data, exclude=exclude, weights=weights)
    with stoppable("The same command, without --fresh, continues after the last finished epoch."):
        outcome = train(request, tell=click.echo)
    _describe_outcome(outcome, request)


def build_request(
    network: "Architecture", options: dict[str, Any], *, weights: str, **settled: Any
) -> "TrainingRequest":
    """Turn the command's options into a request; those of the recipe replace the network's own."""
    from training.run import TrainingRequest

    if weights not in ("imagenet", "none") and not network.pretrained:
        raise click.ClickException(
            f"{network.name} is trained from scratch, so it takes no weights file. Leave out "
            f"--weights {weights}, or choose a pretrained model of `flask models architectures`."
        )
    own = {field.name for field in fields(network.recipe)}
    recipe = {name: value for name, value in options.items() if name in own and value is not None}
    accepted = {field.name for field in fields(TrainingRequest)}
    asked = {name: value for name, value in options.items() if name in accepted}
    asked["size"] = options["size"] or network.size
    return TrainingRequest(
        model=network.name,
        instance=Path(current_app.instance_path),
        models=publishing_root() if options["publish"] is not False else Path(),
        recipe=replace(network.recipe, **recipe),
        weights=weights if weights != "none" and network.pretrained else None,
        command=shlex.join(["flask", *sys.argv[1:]]),
        **asked,
        **settled,
    )


def _describe_outcome(outcome: "TrainingOutcome", request: "TrainingRequest") -> None:
    from training.heads import HEADS

    if measured := outcome.card.measurement:
        low, high = measured.intervals.accuracy
        click.echo(
            f"\n{request.model} on {measured.scans} test scans ({request.protocol}): accuracy "
            f"{measured.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}), "
            f"F1 {measured.f1_macro:.4f}, ROC AUC {measured.roc_auc:.4f}."
        )
    if (training := outcome.card.training) and training.weights:
        loaded = f": {training.tensors} tensors were loaded" if training.tensors else ""
        click.echo(f"It started from {training.weights}{loaded}.")
    click.echo(f"Report: {(outcome.bundle or outcome.run) / 'report' / 'README.md'}")
    click.echo(f"Plots: {outcome.run / 'plots.html'}")
    if obstacle := HEADS[request.head].obstacle:
        click.echo(obstacle)
        return
    if outcome.bundle is None:
        words = [word for word in sys.argv[1:] if word not in ("--fresh", "--no-publish")]
        click.echo(
            f"To publish it{', once it is trained again on all scans' if request.refit else ''}: "
            f"{shlex.join(['flask', *words, '--publish'])}"
        )
        return
    click.echo(f"Published: {outcome.bundle}")
    click.echo(describe_change(outcome.bundle))
    if outcome.card.refusal and not request.manifest:  # so it has convolutions, as int8 needs
        click.echo(
            f"For a faster int8 graph next to it: flask models quantize {request.model}, with the "
            "--config, --data, --exclude, --class and --tumor-free of this command."
        )


def find_architecture(name: str) -> "Architecture":
    """Give an architecture; of an unknown name, say which names it may have been meant for."""
    from training.models import architectures

    known = architectures()
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=3)
        advice = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
        raise click.ClickException(
            f"Unknown model {name!r}.{advice} `flask models architectures` lists all {len(known)}."
        )
    return known[name]


def read_data(
    folders: tuple[Path, ...], exclude: tuple[str, ...], manifest: Path | None
) -> "list[ScanTree]":
    """Refuse folders and manifests without scans before anything heavy is loaded."""
    if not folders and not manifest:
        raise click.UsageError("Missing option '--data' or '--manifest'.")
    from training.data.folders import read_trees

    return read_trees(folders, exclude=exclude, manifest=manifest)


def _check_healthy(trees: "list[ScanTree]", network: "Architecture") -> None:
    """Refuse to publish a model to which each class would be a tumour without anybody saying so."""
    from training.data.task import set_task

    task = set_task(trees, binary=network.binary)
    if task.healthy is None:
        raise click.ClickException(
            f"None of the classes is known to be healthy: {', '.join(task.classes)}. The model "
            "would see a tumour in every scan. Name the folder without a tumour: --tumor-free "
            "NAME. Where each class is a tumour, pass --tumor-free none; to write the report only, "
            "--no-publish."
        )
