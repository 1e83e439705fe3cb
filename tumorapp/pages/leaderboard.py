"""The leaderboard, and the report of each model on it."""

from dataclasses import dataclass
from pathlib import Path

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    render_template,
    request,
    send_from_directory,
)
from werkzeug.datastructures import MultiDict

from brainscan import Model
from brainscan.bundle import Card
from brainscan.bundle.figures import FIGURES_FILE, read_figures
from brainscan.bundle.manifest import MANIFEST_FILE
from brainscan.bundle.study import REPORT_FOLDER, Result, read_study
from brainscan.charts import Words
from brainscan.plots import draw_plots
from brainscan.study_plots import draw_study
from tumorapp.api.options import refuse_option
from tumorapp.catalog import get_catalog
from tumorapp.config import FOLDER, ROOT, Setting
from tumorapp.feature import Feature, Menu
from tumorapp.language import wording
from tumorapp.language.translation import mark, translate, write_decimal
from tumorapp.pages import figures, rows
from tumorapp.pages.mistakes import count_mistakes
from tumorapp.pages.rows import BUDGETS, COLUMNS, Row, describe_card, describe_result, sort_rows

_ORDERS = ("ascending", "descending")
_PAGE = "README.md"
_CARD = "card.json"
_FILES = {  # browsers save text/markdown
    _PAGE: "text/plain",
    FIGURES_FILE: "application/json",
    MANIFEST_FILE: "text/plain",
}


blueprint = Blueprint("leaderboard", __name__, url_prefix="/models")
FEATURE = Feature(
    "leaderboard",
    blueprint,
    page=True,
    menu=Menu(mark("Models"), "show_models", 20),
    settings=(Setting("STUDY_DIR", ROOT / "instance" / "study", FOLDER),),
)
for _filter in (
    figures.write_share,
    figures.write_number,
    figures.write_difference,
    figures.write_published,
    figures.write_stated,
    figures.write_interval,
):
    blueprint.add_app_template_filter(_filter)


@dataclass(frozen=True)
class _Choice:
    """What of the leaderboard is asked for, and in what order; "" is any."""

    sort: str = "accuracy"
    order: str = "descending"
    text: str = ""
    document: str = ""
    protocol: str = ""
    budget: str = ""

    def shows(self, row: Row) -> bool:
        """Tell whether a row passes."""
        return (
            all(word in row.text for word in self.text.lower().split())
            and self.document in ("", row.document)
            and self.protocol in ("", row.protocol)
            and self.budget in ("", row.budget)
        )


@blueprint.get("", strict_slashes=False)
def show_models() -> str:
    """Show every model that is served or was studied, as a table."""
    choice = _read_choice(request.args)
    study = read_study(current_app.config["STUDY_DIR"])
    cards = [model.card for model in get_catalog().models.values()]
    found = [*map(describe_card, cards), *map(describe_result, study.results)]
    column = next(column for column in COLUMNS if column.name == choice.sort)
    shown = filter(choice.shows, found)
    return render_template(
        "models.html",
        rows=sort_rows(shown, column, descending=choice.order == "descending"),
        total=len(found),
        columns=COLUMNS,
        choice=choice,
        documents=sorted({row.document for row in found if row.document}),
        protocols=sorted({row.protocol for row in found if row.protocol}),
        budgets={name: BUDGETS[name] for name in BUDGETS if any(r.budget == name for r in found)},
        study=study,
        plots=draw_study(study.results, _find_words()),
    )


@blueprint.get("/reports/<slug>")
def show_study_report(slug: str) -> str:
    """Show the report of a row of the study."""
    result, folder = _find_result(slug)
    return _render_report(describe_result(result), folder)


@blueprint.get("/reports/<slug>/<file>")
def send_study_file(slug: str, file: str) -> Response:
    """Send the card, the written report or its numbers of a row of the study."""
    result, folder = _find_result(slug)
    return _send(result.card, slug, folder, file)


@blueprint.get("/<model>/<int:version>")
def show_bundle_report(model: str, version: int) -> str:
    """Show the report of a model that is served."""
    loaded, folder = _find_model(model, version)
    return _render_report(describe_card(loaded.card), folder, loaded.engine.precision)


@blueprint.get("/<model>/<int:version>/<file>")
def send_bundle_file(model: str, version: int, file: str) -> Response:
    """Send the card, the manifest, the written report or its numbers of a model that is served."""
    loaded, folder = _find_model(model, version)
    return _send(loaded.card, f"{model}-{version}", folder, file)


def _read_choice(values: MultiDict[str, str]) -> _Choice:
    """Read what a link or the form asks for; other parameters are let be."""
    given = {name: values.get(name, "").strip() for name in _Choice.__dataclass_fields__}
    accepted = {"sort": tuple(column.name for column in COLUMNS), "order": _ORDERS}
    for name, names in accepted.items():
        if given[name] and given[name] not in names:
            raise refuse_option(name, given[name], names)
    return _Choice(**{name: value for name, value in given.items() if value})


def _render_report(row: Row, folder: Path, precision: str | None = None) -> str:
    """Show the report of a row; a model that is served has a graph in some precision."""
    report, training = folder / REPORT_FOLDER, row.card.training
    numbers = read_figures(report)
    return render_template(
        "report.html",
        row=row,
        card=row.card,
        measured=row.card.measurement,
        training=training,
        precision=precision,
        meaning=BUDGETS[row.budget],
        epochs=rows.write_epochs(row),
        plots=draw_plots(numbers, training.best_epoch, _find_words())
        if numbers and training
        else [],
        numbers_file=FIGURES_FILE,
        page=_PAGE if (report / _PAGE).is_file() else None,
        card_file=_CARD,
        manifest=MANIFEST_FILE if (folder / MANIFEST_FILE).is_file() else None,
        mistakes=count_mistakes(row.card),
    )


def _find_words() -> Words:
    """Give the words of charts in the page's language."""
    return Words(translate, write_decimal, wording.class_name)


def _send(card: Card, name: str, folder: Path, file: str) -> Response:
    """Send a card to be saved, or another file; a browser asks each time if it changed."""
    if file == _CARD:
        answer = Response(card.to_json(), mimetype="application/json")
        answer.headers.set("Content-Disposition", "attachment", filename=f"{name}-{_CARD}")
        return answer
    if file not in _FILES:
        abort(404)
    where = folder if file == MANIFEST_FILE else folder / REPORT_FOLDER
    return send_from_directory(where, file, mimetype=_FILES[file])


def _find_result(slug: str) -> tuple[Result, Path]:
    folder: Path = current_app.config["STUDY_DIR"]
    return read_study(folder).find(slug) or abort(404), folder / slug


def _find_model(model: str, version: int) -> tuple[Model, Path]:
    loaded = get_catalog().models.get(model)
    if loaded is None or loaded.card.version != version:
        abort(404)
    return loaded, current_app.config["MODELS_DIR"] / model / str(version)
