"""The leaderboard, and the report of each model on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from tumorapp.api.schemas import refuse_option
from tumorapp.catalog import Catalog
from tumorapp.config import FOLDER, ROOT, Setting
from tumorapp.feature import Feature, Menu
from tumorapp.language.translation import mark
from tumorapp.pages import figures, rows
from tumorapp.pages.mistakes import count_mistakes
from tumorapp.pages.rows import BUDGETS, COLUMNS, Row, describe_card, describe_result, sort_rows
from tumorapp.pages.study import Study, read_card, read_study

_ORDERS = ("ascending", "descending")
_PAGE = "README.md"
_CARD = "card.json"


@dataclass(frozen=True)
class Plot:
    """A drawing of a report: its words in English, and its size in CSS pixels.

    Room is kept for it while it loads.
    """

    file: str
    title: str
    explanation: str
    width: int = 480
    height: int = 432


PLOTS = (
    Plot(
        "history.svg",
        mark("Learning curves"),
        mark("Loss and accuracy after each epoch."),
        864,
        336,
    ),
    Plot(
        "confusion.svg",
        mark("Confusion matrix"),
        mark("Each row is a label, each column an answer."),
    ),
    Plot(
        "roc.svg",
        mark("ROC"),
        mark("Cases that are found against false alarms, at every threshold."),
    ),
    Plot(
        "reliability.svg",
        mark("Reliability"),
        mark("How often it is right when it is that sure."),
    ),
)

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
    """What of the leaderboard is asked for, and in what order; "" stands for any."""

    sort: str = "accuracy"
    order: str = "descending"
    text: str = ""
    document: str = ""
    protocol: str = ""
    budget: str = ""
    columns: str = ""

    def shows(self, row: Row) -> bool:
        """Tell whether a row passes; static/js/table.js asks the same of it."""
        return (
            all(word in row.text for word in self.text.lower().split())
            and self.document in ("", *row.document.split(", "))
            and self.protocol in ("", row.protocol)
            and self.budget in ("", row.budget)
        )


@blueprint.get("", strict_slashes=False)
def show_models() -> str:
    """Show every model that is served or was studied, as a table."""
    choice = _read_choice(request.args)
    study = _study()
    cards = [model.card for _, model in sorted(_catalog().models.items())]
    found = [*map(describe_card, cards), *map(describe_result, study.results)]
    column = next(column for column in COLUMNS if column.name == choice.sort)
    ordered = sort_rows(found, column, descending=choice.order == "descending")
    return render_template(
        "models.html",
        rows=ordered,
        shown={row.url for row in ordered if choice.shows(row)},
        columns=COLUMNS,
        choice=choice,
        documents=sorted({name for row in found for name in row.document.split(", ") if name}),
        protocols=sorted({row.protocol for row in found if row.protocol}),
        budgets={name: BUDGETS[name] for name in BUDGETS if any(r.budget == name for r in found)},
        study=study,
    )


@blueprint.get("/reports/<slug>")
def show_study_report(slug: str) -> str:
    """Show the report of a row of the study."""
    result = _study().find(slug) or abort(404)
    card = read_card(_study_folder(), slug)
    folder = _study_folder() / slug / "report"
    return _render_report(describe_result(result), card, folder, result=result)


@blueprint.get("/reports/<slug>/<file>")
def send_study_file(slug: str, file: str) -> Response:
    """Send the card, a plot or the written report of a row of the study."""
    if _study().find(slug) is None:
        abort(404)
    if file == _CARD:
        return _send_card(read_card(_study_folder(), slug) or abort(404), slug)
    return _send(_study_folder(), f"{slug}/report", file)


@blueprint.get("/<model>/<int:version>")
def show_bundle_report(model: str, version: int) -> str:
    """Show the report of a model that is served."""
    loaded = _find_model(model, version)
    folder = _models_folder() / model / str(version) / "report"
    precision = loaded.engine.precision
    return _render_report(describe_card(loaded.card), loaded.card, folder, precision=precision)


@blueprint.get("/<model>/<int:version>/<file>")
def send_bundle_file(model: str, version: int, file: str) -> Response:
    """Send the card, a plot or the written report of a model that is served."""
    card = _find_model(model, version).card
    if file == _CARD:
        return _send_card(card, f"{model}-{version}")
    return _send(_models_folder(), f"{model}/{version}/report", file)


def _read_choice(values: MultiDict[str, str]) -> _Choice:
    """Read what a link or the form asks for; other parameters are let be."""
    given = {name: values.get(name, "").strip() for name in _Choice.__dataclass_fields__}
    accepted = {"sort": tuple(column.name for column in COLUMNS), "order": _ORDERS}
    for name, names in accepted.items():
        if given[name] and given[name] not in names:
            raise refuse_option(name, given[name], names)
    return _Choice(**{name: value for name, value in given.items() if value})


def _render_report(row: Row, card: Card | None, folder: Path, **more: Any) -> str:
    return render_template(
        "report.html",
        row=row,
        card=card,
        meaning=BUDGETS[row.budget],
        epochs=rows.write_epochs(row),
        plots=[plot for plot in PLOTS if (folder / plot.file).is_file()],
        page=_PAGE if (folder / _PAGE).is_file() else None,
        card_file=_CARD,
        mistakes=count_mistakes(card) if card else None,
        **more,
    )


def _send(root: Path, folder: str, file: str) -> Response:
    """Send a file of a report; a browser asks each time whether it changed."""
    if file == _PAGE:  # as text: browsers save Markdown instead of showing it
        return send_from_directory(root, f"{folder}/{file}", mimetype="text/plain")
    if file not in {plot.file for plot in PLOTS}:
        abort(404)
    return send_from_directory(root, f"{folder}/{file}", mimetype="image/svg+xml")


def _send_card(card: Card, name: str) -> Response:
    """Send a card to be saved under a name that says whose it is."""
    answer = Response(card.to_json(), mimetype="application/json")
    answer.headers.set("Content-Disposition", "attachment", filename=f"{name}-{_CARD}")
    return answer


def _find_model(model: str, version: int) -> Model:
    loaded = _catalog().models.get(model)
    if loaded is None or loaded.card.version != version:
        abort(404)
    return loaded


def _catalog() -> Catalog:
    catalog: Catalog = current_app.extensions["catalog"]
    return catalog


def _models_folder() -> Path:
    folder: Path = current_app.config["MODELS_DIR"]
    return folder


def _study_folder() -> Path:
    folder: Path = current_app.config["STUDY_DIR"]
    return folder


def _study() -> Study:
    return read_study(_study_folder())
