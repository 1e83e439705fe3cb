"""axe-core finds nothing against WCAG 2.2 AA, on any page and in any state of it."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.cards import MEASURED, RESULT, VERDICTS
from tests.heads import write_volume
from tests.tumorapp.pages import TEXT_FILE, Page, choose, hand_over, image, wait_for_result
from tests.tumorapp.test_pages_leaderboard import write_study
from tumorapp import create_app

pytestmark = pytest.mark.browser

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# Beyond WCAG, Swagger UI has a main and an order of headings of its own.
RULES = {"API, to be tried": WCAG}
# Every rule at both widths; in the other scheme, what colours decide.
# By then, the scripts of a page have heard of another scheme.
NEXT_FRAME = "new Promise((tell) => requestAnimationFrame(() => requestAnimationFrame(tell)))"
LOOKS = (("light", 1280, True), ("dark", 1280, False), ("dark", 360, True), ("light", 360, False))
OF_COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    """The application with a study, two models, and one that marks and one that refuses."""
    root, study = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("study")
    publish_model(root, "binary-cnn")
    publish_model(root, "mobilenet-v2", measurement=MEASURED)
    for verdict in ("tumor", "tumor-kind-unclear", "not-recognised"):
        publish_model(root, f"of-{verdict}", **VERDICTS[verdict])
    write_study(study / "results")
    jobs = tmp_path_factory.mktemp("jobs")
    return create_app({"MODELS_DIR": root, "STUDY_DIR": study / "results", "JOBS_DIR": jobs})


@pytest.fixture(scope="module")
def find_faults() -> Callable[[Page, Any], list[str]]:
    """Ask axe-core about a page; each fault as its rule, what is wrong, and where."""
    script = pytest.importorskip("axe_playwright_python.base").AXE_SCRIPT

    def find(page: Page, rules: Any) -> list[str]:
        options = {"runOnly": rules, "resultTypes": ["violations"]}
        if page.evaluate("typeof axe") == "undefined":  # half a megabyte: once for each page
            page.evaluate(script)
        found = page.evaluate("options => axe.run(options)", options)["violations"]
        return [
            f"{fault['id']}: {fault['help']}: {node['target']} {node['html'][:200]}"
            for fault in found
            for node in fault["nodes"]
        ]

    return find


def start(page: Page, scan: bytes) -> None:
    page.locator(".invitation").wait_for()


def predict(page: Page, scan: bytes) -> None:
    choose(page, scan)


def predict_as(verdict: str) -> Callable[[Page, bytes], None]:
    def reach(page: Page, scan: bytes) -> None:
        page.select_option("#model", f"of-{verdict}")
        page.set_input_files("#image", image(scan))
        wait_for_result(page, "scan.jpg", f"of-{verdict}")
        open_details(page, scan)

    return reach


def look_closely_at_a_volume(page: Page, scan: bytes) -> None:
    page.select_option("#model", "of-tumor")
    page.set_input_files("#image", image(write_volume(), "head.nii.gz"))
    wait_for_result(page, "head.nii.gz", "of-tumor")
    open_details(page, scan)
    for slider in ("Zoom", "Brightness", "Contrast"):
        page.get_by_label(slider).fill("200")
    page.get_by_role("button", name="curl").click()


def refuse(page: Page, scan: bytes) -> None:
    page.set_input_files("#image", TEXT_FILE)
    page.get_by_role("alert").wait_for()


def lose_connection(page: Page, scan: bytes) -> None:
    page.context.set_offline(True)
    page.set_input_files("#image", image(scan))
    page.get_by_role("alert").wait_for()


def compare(page: Page, scan: bytes) -> None:
    choose(page, scan)
    page.get_by_text("Adjust the view").click()  # folded, as on a phone
    page.get_by_role("button", name="Compare all").click()
    page.get_by_role("heading", name="All models").wait_for()


def predict_many(page: Page, scan: bytes) -> None:
    hand_over(page, "drop", [("one.jpg", scan), ("letter.jpg", b"Dear doctor"), ("two.jpg", scan)])
    page.locator("#many-note", has_text="All 3 scans are done").wait_for()


def compare_with_folders(page: Page, scan: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("glioma", "notumor"):
            Path(folder, name).mkdir()
            Path(folder, name, "scan.jpg").write_bytes(scan)
        page.locator("input[webkitdirectory]").set_input_files(folder)
        page.locator("#many-note", has_text="All 2 scans are done").wait_for()
        page.locator("#many-judged").click()
        page.get_by_role("button", name="glioma/scan.jpg").click()
        page.locator("article.result").wait_for()


def keep_history(page: Page, scan: bytes) -> None:
    page.get_by_label("Keep a history").check()
    choose(page, scan)
    page.locator("#history-list li").wait_for()


def show_steps(page: Page, scan: bytes) -> None:
    page.set_input_files("#image", image(scan))
    page.get_by_role("button", name="Show the steps").click()
    page.wait_for_load_state("networkidle")


def find_nothing(page: Page, scan: bytes) -> None:
    page.get_by_label("Search").fill("heart")


def open_details(page: Page, scan: bytes) -> None:
    for summary in page.locator("details:not([open]) > summary:visible").all()[::-1]:
        summary.click()


def try_operations(page: Page, scan: bytes) -> None:
    page.get_by_role("button", name="Read and try them here").click()
    page.locator(".opblock").first.wait_for()


STATES: dict[str, tuple[str, Callable[[Page, bytes], Any]]] = {
    "start": ("", start),
    "result": ("", predict),
    "a marked region": ("", predict_as("tumor")),
    "a tumour of several kinds": ("", predict_as("tumor-kind-unclear")),
    "not recognised": ("", predict_as("not-recognised")),
    "a volume": ("", look_closely_at_a_volume),
    "refused": ("", refuse),
    "no connection": ("", lose_connection),
    "compared": ("", compare),
    "many": ("", predict_many),
    "many in folders": ("", compare_with_folders),
    "history": ("", keep_history),
    "how it works": ("how", lambda page, scan: None),
    "how it works, own scan": ("how", show_steps),
    "how it works, a lesion map": ("how?model=of-tumor", lambda page, scan: None),
    "models": ("models", lambda page, scan: None),
    "models, none found": ("models", find_nothing),
    "a served model": ("models/mobilenet-v2/1", open_details),
    "a model that was not measured": ("models/binary-cnn/1", open_details),
    "a row of the study": (f"models/reports/{RESULT.id}", open_details),
    "API": ("api/docs", lambda page, scan: None),
    "API, to be tried": ("api/docs", try_operations),
    "not found": ("nothing", lambda page, scan: None),
    "in German": ("?lang=de", predict),
}


@pytest.mark.parametrize("state", STATES)
def test_nothing_is_found(
    open_page: Callable[..., Page],
    find_faults: Callable[[Page, Any], list[str]],
    scan: bytes,
    state: str,
) -> None:
    path, reach = STATES[state]
    page = open_page(path, reduced_motion="reduce")
    reach(page, scan)
    faults, rules = [], RULES.get(state, [*WCAG, "best-practice"])
    for scheme, width, every in LOOKS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate(NEXT_FRAME)
        found = find_faults(page, rules if every else OF_COLOURS)
        faults += [f"{scheme}, {width} pixels: {fault}" for fault in found]
    assert not faults, "\n".join(faults)
