"""How right the models are: one under every protocol, all that are published, other renderings.

    python -m benchmarks.accuracy

Writes docs/accuracy.md. binary-cnn is trained once under each protocol with its own recipe, on the
data of the committed models, and not published; of the protocol leave-one-source-out, once for each
folder. A training that has ended is read from its run, one that was cut off resumes, and one that
cannot be divided so is named on the page. `--only PROTOCOL` trains under that protocol alone; the
others are on the page where their runs have ended.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import yaml

from benchmarks import renderings
from brainscan import open_model
from brainscan.bundle import Card, SourceFigures, read_bundle, survey_bundles
from brainscan.bundle.protocols import PROTOCOLS, Protocol
from brainscan.files import write_text
from training.data.folders import find_scans
from training.data.sources import DataError
from training.data.split import SplitError, split_scans
from training.decide import DecisionError
from training.models import architecture
from training.pipeline import load, train
from training.run import TrainingRequest, find_run

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
SCANS = 60  # that are rendered
# The hardest first, which is the one to believe.
HARDEST_FIRST: tuple[Protocol, ...] = (
    "leave-one-source-out",
    "patient",
    "grouped",
    "official",
    "random-80-20",
)
_FIGURES = (
    "protocol",
    "test scans",
    "near-duplicate groups",
    "with a copy in training",
    "accuracy (95 %)",
    "balanced accuracy",
    "ROC AUC",
    "calibration error",
    "sure",
    "right among the sure",
    "peak in the outline",
    "Dice",
)


@dataclass(frozen=True)
class Trial:
    """One training, and what came of it.

    Attributes:
        title: the protocol, or the folder that it leaves out.
        card: of the run; None where there is none.
        reason: why there is none.
    """

    title: str
    card: Card | None
    reason: str = ""


def list_requests(base: TrainingRequest) -> Iterator[tuple[str, TrainingRequest]]:
    """Give title and request of every training: each protocol, and each folder left out."""
    for protocol in HARDEST_FIRST:
        request = replace(base, protocol=protocol, publish=False)
        if protocol != "leave-one-source-out":
            yield protocol, request
            continue
        for folder in base.data:
            others = tuple(one for one in base.data if one != folder)
            yield f"without {folder.name}", replace(request, data=(*others, folder))


def run_trial(title: str, request: TrainingRequest, *, may_train: bool) -> Trial:
    """Read the card of a training's run; train where there is none yet."""
    click.echo(f"\n{request.model}, {title}")
    try:
        run = find_run(request, split_scans(load(request), request.protocol, request.seed))
        card = run.folder / "card.json"
        if not card.is_file():
            if not may_train:
                return Trial(title, None, "not trained yet.")
            train(request, tell=click.echo)
        return Trial(title, Card.from_json(card.read_text(encoding="utf-8")))
    except (DataError, DecisionError, SplitError) as error:
        return Trial(title, None, str(error))


def draw_figures(cards: Mapping[str, Card]) -> str:
    """Draw a table of figures, one of the data sets and one of the planes; a row for each card."""
    rows = {title: card.measurement for title, card in cards.items() if card.measurement}
    figures: dict[str, Sequence[str]] = {}
    for title, one in rows.items():
        low, high = one.intervals.accuracy
        sure = one.decision
        figures[title] = (
            f"`{one.protocol}`",
            f"{one.scans:,}",
            f"{one.groups:,}",
            f"{one.leaked:.0%}",
            f"{one.accuracy:.3f} ({low:.3f} – {high:.3f})",
            f"{one.balanced_accuracy:.3f}",
            f"{one.roc_auc:.3f}",
            f"{one.calibration_error:.3f}",
            f"{sure.sure:.3f}" if sure else "",
            f"{sure.sure_accuracy:.3f}" if sure and sure.sure_accuracy is not None else "",
            f"{one.pointing.peak:.3f}" if one.pointing else "",
            f"{one.pointing.dice:.3f}" if one.pointing and one.pointing.dice is not None else "",
        )
    return "\n".join(
        (
            _draw_table("", _FIGURES, figures),
            "Accuracy on the test scans of each data set, and how many there are:\n",
            _draw_groups({title: one.by_source for title, one in rows.items()}),
            "Likewise of each plane, as guessed from the shape of the head:\n",
            _draw_groups({title: one.by_plane for title, one in rows.items()}),
        )
    )


def _draw_groups(rows: Mapping[str, Mapping[str, SourceFigures]]) -> str:
    columns = sorted({name for groups in rows.values() for name in groups})
    cells = {
        title: [
            f"{groups[name].accuracy:.3f} ({groups[name].scans:,})" if name in groups else "–"
            for name in columns
        ]
        for title, groups in rows.items()
    }
    return _draw_table("", columns, cells)


def draw_renderings(found: Mapping[str, Sequence[renderings.Row]]) -> str:
    """Draw how many scans get another label in each rendering; a column for each model."""
    cells: dict[str, list[str]] = {name: [] for name in renderings.RENDERINGS}
    for rows in found.values():
        for row in rows:
            cells[row.name].append(f"{row.changed} ({row.silent})")
    return _draw_table("rendering", tuple(found), cells)


def _draw_table(corner: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    lines = [(corner, *columns), ("---",) * (len(columns) + 1)]
    lines += [(title, *cells) for title, cells in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_page(
    base: TrainingRequest,
    trials: Sequence[Trial],
    published: Mapping[str, Card],
    rendered: Mapping[str, Sequence[renderings.Row]],
    scans: int,
) -> str:
    """Write the page as Markdown.

    Args:
        base: what was trained under every protocol, on which folders.
        trials: what came of it.
        published: title → card of other trainings.
        rendered: model → what became of each rendering.
        scans: how many were rendered.
    """
    cards = {one.title: one.card for one in trials if one.card}
    names = ", ".join(folder.name for folder in base.data)
    missing = [f"- Not measured, {one.title}: {one.reason}\n" for one in trials if not one.card]
    return f"""# Accuracy

Written by one command, which trains what is missing and reads the rest from the cards:

    {base.command}

Every row is one training, measured once, at its end, on its own test part. Intervals are 95 %, from
bootstrap draws of whole near-duplicate groups, or of runs of slices where patients are kept apart.
The [README](../README.md#how-good-the-models-are) says what the protocols mean. The hardest come
first: believe those.

## One model under every protocol

{base.model}, trained with its own recipe on {names}:

{draw_figures(cards)}
{"".join(missing)}
## The published models

{draw_figures(published)}
## Other renderings of the same scan

Of {scans} scans, so many get another label when they are saved in another way; in brackets, how
many of these without a warning. What was trained again on all scans (`--refit`) has seen them.
`python -m benchmarks.renderings` counts warnings and refusals too.

{draw_renderings(rendered)}"""


def read_published(models: Path) -> list[Card]:
    """Read the cards of the bundles that are served."""
    return [
        read_bundle(models / name / str(installed.candidates[0]))
        for name, installed in survey_bundles(models).items()
    ]


@click.command(help=__doc__)
@click.option("--model", default="binary-cnn", show_default=True, help="An architecture.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=Path("docs/models.yaml"),
    show_default=True,
    help="As in flask train; data, exclude and refuse are taken from it.",
)
@click.option("--only", multiple=True, type=click.Choice(PROTOCOLS), help="Train only under these.")
@click.option(
    "--card",
    "others",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="card.json of a run that was not published, to be listed with the published models.",
)
@click.option("--instance", type=click.Path(path_type=Path), default=Path("instance"))
def main(
    model: str, config: Path, only: tuple[str, ...], others: tuple[Path, ...], instance: Path
) -> None:
    """Train what is missing, and write the page."""
    network, settings = architecture(model), yaml.safe_load(config.read_text(encoding="utf-8"))
    data = tuple(map(Path, settings["data"]))
    base = TrainingRequest(
        model=model,
        data=data,
        instance=instance,
        models=instance / "models",
        protocol="patient",
        recipe=network.recipe,
        size=network.size,
        exclude=tuple(settings.get("exclude", ())),
        refuse=tuple(map(Path, settings.get("refuse", ()))),
        weights="imagenet" if network.pretrained else None,
        command=f"python -m benchmarks.accuracy --model {model}",
    )
    trials = [
        run_trial(title, request, may_train=not only or request.protocol in only)
        for title, request in list_requests(base)
    ]
    published = read_published(base.models)
    unpublished = [Card.from_json(path.read_text(encoding="utf-8")) for path in others]
    richest = max(data, key=lambda folder: len({scan.label for scan in find_scans(folder)}))
    files = [path.read_bytes() for path in renderings.choose_scans(richest, SCANS)]
    rendered = {
        card.name: renderings.compare(open_model(base.models / card.name), files)
        for card in published
    }
    listed = {card.name: card for card in published}
    listed |= {f"{card.name}, not published": card for card in unpublished}
    write_text(PAGE, write_page(base, trials, listed, rendered, len(files)))
    click.echo(f"Written: {PAGE}")


if __name__ == "__main__":
    main()
