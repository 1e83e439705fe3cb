"""`flask tune`: a search for the settings that a model is best trained with."""

import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from tqdm import tqdm

from tumorapp.cli.backend import check_backend, load_backend, stoppable
from tumorapp.cli.cluster import find_workers, ray_option
from tumorapp.cli.own_classes import join_names
from tumorapp.cli.train import build_request, find_architecture, read_data, train_command

_WITHOUT = ("head", "publish", "fresh")  # options of `flask train` that no search has a use for
_EXAMPLES = """
\b
Examples:
  flask tune --model binary-cnn --data instance/data/preetviradiya --trials 30
  flask tune --model mobilenet-v2 --data instance/data/nickparvar --method frozen
  flask tune --model resnet18 --data instance/data/sartaj --epochs 15 --size 160 --batch 32
  flask tune --config docs/models.yaml --trials 10
  flask tune --model resnet18 --data instance/data/sartaj --trials 40 --ray 10.0.0.1:6379
  flask train --config instance/tuning/binary-cnn-0123456789ab/best.yaml
"""


@click.command(
    "tune",
    params=[one for one in train_command.params if one.name not in _WITHOUT],
    epilog=_EXAMPLES,
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Total number of trials, including those already finished.",
)
@ray_option
@click.pass_context
def tune_command(
    context: click.Context,
    /,
    model: str,
    data: tuple[Path, ...],
    exclude: tuple[str, ...],
    weights: str,
    classes_of: dict[str, str],
    trials: int,
    cluster: str | None,
    **options: Any,
) -> None:
    """Try settings for MODEL, and write the best as a file that `flask train --config` takes.

    A search varies learning rate, weight decay, label smoothing, batch, size, augmentation and
    mixup, those of them that the model uses. What you pass as an option stays as it is. The
    validation part decides; no trial looks at the test part. A trial that falls behind the others
    is stopped early, and one that fails does not end the search. The same command resumes it, and
    adds trials if --trials is higher.
    """
    check_backend()
    from training.data.sources import own_classes

    names = join_names(classes_of, options["tumor_free"])
    with own_classes(names):
        read_data(data, exclude, options["manifest"])
    load_backend()
    from training.run import settle
    from training.tune.report import write_best, write_report
    from training.tune.search import describe, find_folder, open_study, run_trials
    from training.tune.space import choose_space
    from training.tune.trial import Search

    network = find_architecture(model)
    options |= {"head": "softmax", "publish": False, "fresh": False}
    request = build_request(network, options, data=data, exclude=exclude, weights=weights)
    fixed = [name for name, value in options.items() if value is not None]
    wanted = Search(settle(request), choose_space(request, fixed), names)
    folder = find_folder(wanted)
    click.echo(f"The search is kept in {folder}.")
    with (
        find_workers(cluster) as workers,
        stoppable("Finished trials are kept; the same command continues."),
        open_study(wanted, folder) as study,
    ):
        try:
            run_trials(study, wanted, trials, folder, tqdm.write, workers)
        finally:
            write_report(study, folder / "report.html", f"Search of {model}")
            click.echo(f"Report: {folder / 'report.html'}")
            best = write_best(study, folder / "best.yaml", _list_given(context))
    if best is None:
        raise click.ClickException(
            "No trial was finished. The lines above, and the report, say why."
        )
    click.echo(f"Best: validation accuracy {best.value:.4f}, with {describe(best.params)}.")
    click.echo(
        f"To train it: {shlex.join(['flask', 'train', '--config', str(folder / 'best.yaml')])}"
    )


def _list_given(context: click.Context) -> dict[str, Any]:
    """Give the options of `flask train` that were given, as `--config` takes them."""
    given: dict[str, Any] = {}
    for option in context.command.params:
        name = str(option.name)
        default = context.get_parameter_source(name) is ParameterSource.DEFAULT
        if option not in train_command.params or default or not option.expose_value:
            continue
        value = context.params[name]
        if isinstance(value, dict):
            value = [f"{key}={one}" for key, one in value.items()]
        elif isinstance(value, tuple):
            value = [str(one) for one in value]
        elif isinstance(value, Path):
            value = str(value)
        given[option.opts[-1].removeprefix("--")] = value
    return given
