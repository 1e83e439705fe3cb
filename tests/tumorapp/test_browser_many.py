"""Many scans at once, and the history, in a real browser."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cards import FOUR_CLASSES
from tests.tumorapp.pages import (
    TEXT_FILE,
    Page,
    choose,
    field_holds,
    image,
    wait_for_result,
)
from tests.tumorapp.test_prediction_table import HOSTILE
from tumorapp.file_names import clean_name
from tumorapp.prediction_table import open_table

pytestmark = pytest.mark.browser

Draw = Callable[..., bytes]


def wait_for_note(page: Page, text: str) -> None:
    page.locator("#many-note", has_text=text).wait_for(state="attached")


def give(page: Page, *files: Any) -> None:
    page.set_input_files("#image", list(files))


def read_names(page: Page) -> list[str]:
    names: list[str] = page.locator("#many-table tbody tr:visible .open").all_inner_texts()
    return names


def save(page: Page, button: str) -> str:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path()).read_text(encoding="utf-8-sig")


@pytest.fixture
def some(draw_scan: Draw) -> list[dict[str, Any]]:
    """Four scans, one of which the browser cannot draw, and a letter."""
    scans = [image(draw_scan("PNG", spot=0.3 + n / 10), f"scan {n}.png") for n in (10, 9, 1)]
    return [*scans, image(draw_scan("TIFF"), "=slice,1.tiff"), TEXT_FILE]


class TestTable:
    def test_two_hundred_scans_with_a_bad_one_among_them(self, page: Page, draw_scan: Draw) -> None:
        scans = [draw_scan("JPEG", spot=0.3 + n / 30) for n in range(10)]
        files = [image(scans[n % 10], f"scan {n}.jpg") for n in range(199)]
        files.insert(7, {"name": "broken.png", "mimeType": "image/png", "buffer": b"\x89PNG"})
        give(page, *files)
        wait_for_note(page, "All 200 scans are done. Needing a look: 1.")
        assert page.locator("#many-progress").evaluate("bar => bar.value") == 1
        assert page.locator("#many-table .remarks", has_text="not an image").count() == 1
        assert page.locator("#many-table tr[data-state=predicted]").count() == 199
        pictures = page.locator("#many-table .thumbnail[src^='data:image/webp']")
        pictures.nth(198).wait_for(state="attached")
        assert pictures.count() == 199
        assert pictures.first.evaluate("picture => picture.naturalHeight") == 96
        assert page.locator(".invitation").is_visible()  # the single view was left alone
        assert page.get_by_text("The result appears here").is_hidden()  # but for this promise
        assert page.locator(".models").is_visible()
        assert field_holds(page) == []

    def test_it_sorts_and_filters(self, page: Page, some: list[Any]) -> None:
        give(page, *some)
        wait_for_note(page, "All 5")
        natural = ["=slice,1.tiff", "letter.txt", "scan 1.png", "scan 9.png", "scan 10.png"]
        assert read_names(page) == natural
        row = page.locator("#many-table tr", has_text="=slice,1.tiff")  # no browser draws a TIFF
        assert row.locator("img").evaluate("picture => picture.naturalHeight") == 96
        header = page.get_by_role("columnheader", name="Scan")
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == "ascending"
        header.get_by_role("button").click()
        assert read_names(page) == natural[::-1]
        page.get_by_role("columnheader", name="Remarks").get_by_role("button").click()
        assert read_names(page)[0] == "letter.txt"
        page.get_by_label("Needs a look (1)").check()
        assert read_names(page) == ["letter.txt"]
        page.get_by_label("Search").fill("nothing like it")
        page.get_by_role("button", name="Show all").click()
        assert len(read_names(page)) == 5
        chips = page.locator("#many-findings label")
        counts = dict(text.rsplit(maxsplit=1) for text in chips.all_inner_texts())
        assert (counts.pop("All"), counts["No prediction"]) == ("5", "1")
        assert sum(map(int, counts.values())) == 5  # each finding is counted
        assert list(counts) == sorted(counts)
        page.get_by_role("radio", name="No prediction").check()
        assert read_names(page) == ["letter.txt"]
        finding = next(name for name in counts if name != "No prediction")
        page.get_by_role("radio", name=finding).check()
        cells = page.locator("#many-table tr:visible td:nth-child(2) > span:first-child")
        assert set(cells.all_inner_texts()) == {finding}

    def test_the_same_file_twice_is_one_row(
        self, page: Page, tmp_path: Path, draw_scan: Draw
    ) -> None:
        for name in ("a", "b"):
            (tmp_path / f"{name}.png").write_bytes(draw_scan("PNG"))
        both = sorted(tmp_path.iterdir())
        page.set_input_files("#image", both)
        wait_for_note(page, "All 2 scans are done.")
        page.set_input_files("#image", both)
        wait_for_note(page, "All 2 scans are in the table already.")
        assert read_names(page) == ["a.png", "b.png"]

    def test_the_next_row_comes_by_a_key_and_the_table_keeps_its_place(
        self, open_page: Callable[..., Page], draw_scan: Draw
    ) -> None:
        page = open_page(reduced_motion="reduce")
        give(page, *(image(draw_scan("PNG"), f"scan {n}.png") for n in range(20)))
        wait_for_note(page, "All 20")
        page.get_by_role("button", name="scan 12.png").click()
        wait_for_result(page, "scan 12.png")
        page.keyboard.press("Alt+ArrowDown")
        wait_for_result(page, "scan 13.png")
        assert page.locator("#pager").inner_text().split("\n")[:3] == [
            "Previous",
            "Next",
            "14 of 20",
        ]
        page.get_by_role("button", name="Previous").click()
        wait_for_result(page, "scan 12.png")
        page.keyboard.press("Enter")  # the button keeps the focus
        wait_for_result(page, "scan 11.png")
        page.get_by_role("button", name="To the table").click()
        row = page.get_by_role("button", name="scan 11.png")
        assert row.evaluate("opener => opener === document.activeElement")
        box = row.bounding_box()
        assert 0 < box["y"] < 720
        page.get_by_label("Search").fill("scan 1")
        page.get_by_role("button", name="scan 19.png").click()
        wait_for_result(page, "scan 19.png")
        page.keyboard.press("Alt+ArrowDown")  # there is no other
        assert page.locator("#pager").get_by_text("11 of 11").is_visible()
        page.get_by_label("Search").fill("scan 2.png")
        assert page.locator("#pager").is_hidden()

    def test_another_model_is_offered_for_the_whole_table(
        self, page: Page, some: list[Any]
    ) -> None:
        give(page, *some)
        wait_for_note(page, "All 5")
        again = page.get_by_role("button", name="Predict all again with binary-cnn")
        assert again.is_hidden()
        page.select_option("#model", "binary-cnn")
        again.click()
        wait_for_note(page, "All 5 scans are done")
        models = page.locator("#many-table td:nth-child(2) .note", has_text="binary-cnn")
        assert models.count() == 4
        assert again.is_hidden()

    def test_folders_that_name_classes_are_compared_with_the_answers(
        self, page: Page, tmp_path: Path, draw_scan: Draw
    ) -> None:
        page.select_option("#model", "binary-cnn")
        for folder, count in (("glioma_tumor", 3), ("No Tumour", 2), ("others", 1)):
            (tmp_path / "set" / folder).mkdir(parents=True)
            for number in range(count):
                scan = draw_scan("PNG", spot=0.3 + number / 20)
                (tmp_path / "set" / folder / f"{number}.png").write_bytes(scan)
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Choose a folder").click()
        chooser.value.set_files(tmp_path / "set")
        wait_for_note(page, "All 6")
        told = page.locator("#many-judged").inner_text()
        right, of, wrong, left = map(int, re.findall(r"\d+", told))
        assert (of, right + wrong, left) == (5, 5, 0)
        page.locator("#many-judged").click()
        lines = page.locator("#many-matrix tbody tr")
        assert lines.locator("th").all_inner_texts() == ["Glioma", "No tumour"]
        sums = [sum(map(int, line.locator("td").all_inner_texts())) for line in lines.all()]
        assert sums == [3, 2]
        matrix = list(csv.reader(io.StringIO(save(page, "Download the confusion matrix"))))
        assert matrix[0][0] == "truth"
        assert [line[0] for line in matrix[1:]] == ["glioma", "notumor"]
        answers = list(csv.DictReader(io.StringIO(save(page, "Download CSV"))))
        assert sorted(row["truth"] for row in answers) == ["", *["glioma"] * 3, *["notumor"] * 2]
        assert [row["right"] for row in answers].count("True") == right
        page.get_by_label(f"Mistakes ({wrong})").check()
        assert len(read_names(page)) == wrong

    def test_on_a_phone_nothing_is_cut_off(
        self, open_page: Callable[..., Page], some: list[Any]
    ) -> None:
        page = open_page(viewport={"width": 320, "height": 740}, locale="de-DE")
        give(page, *some)
        wait_for_note(page, "Alle 5")
        longest = "cell => { cell.firstElementChild.textContent = 'Hypophysentumor'; }"
        page.locator("#many-table td:nth-child(2)").first.evaluate(longest)
        wide = "box => box.scrollWidth - box.clientWidth"
        assert page.locator(".scroller:has(#many-table)").evaluate(wide) == 0
        confidence = page.locator("#many-table td.number").first
        assert confidence.is_visible()
        box = confidence.bounding_box()
        assert box["x"] + box["width"] <= 320
        page.get_by_role("button", name="Konfidenz").click()
        assert page.locator("#many-table [aria-sort]").inner_text() == "Konfidenz"

    def test_it_is_saved_as_the_command_line_does(self, page: Page, some: list[Any]) -> None:
        give(page, *some)
        wait_for_note(page, "All 5")
        text = save(page, "Download CSV")
        rows = list(csv.DictReader(io.StringIO(text)))
        classes = [f"p_{label}" for label in FOUR_CLASSES]
        table = io.StringIO()
        open_table(FOUR_CLASSES, table)
        assert list(rows[0]) == table.getvalue().strip().split(",")
        assert rows[0]["file"] == "'=slice,1.tiff"  # no formula for a spreadsheet
        assert sum(float(rows[0][name]) for name in classes) == pytest.approx(1, abs=1e-4)
        assert rows[0]["tumor"] in {"True", "False"}
        assert rows[0]["verdict"] == ("tumor" if rows[0]["tumor"] == "True" else "no-tumor")
        assert rows[1]["label"] == ""
        assert rows[1]["error"].startswith("The file is not an image")
        assert rows[1]["codes"] == "not-an-image"
        page.get_by_label("Search").fill("scan 9")
        [result] = json.loads(save(page, "Download JSON"))
        assert result["file"] == "scan 9.png"
        assert result["confidence"] == float(rows[3]["confidence"])

    def test_no_cell_is_a_formula(self, page: Page) -> None:
        give(page, *({**TEXT_FILE, "name": name} for name in HOSTILE))
        wait_for_note(page, f"All {len(HOSTILE)}")
        found = [row["file"] for row in csv.DictReader(io.StringIO(save(page, "Download CSV")))]
        table = io.StringIO()
        writer = open_table((), table)
        for name in HOSTILE:
            writer.writerow({"file": clean_name(name)})
        written = [row["file"] for row in csv.DictReader(io.StringIO(table.getvalue()))]
        assert sorted(found) == sorted(written)

    def test_a_row_shows_its_scan_by_itself(self, page: Page, some: list[Any]) -> None:
        give(page, *some)
        wait_for_note(page, "All 5")
        page.get_by_role("button", name="scan 9.png").click()
        wait_for_result(page, "scan 9.png")
        assert page.locator(".open[aria-current]").all_inner_texts() == ["scan 9.png"]
        assert field_holds(page) == ["scan 9.png"]
        page.get_by_role("button", name="Clear the table").click()
        assert page.locator("#many").is_hidden()
        give(page, *some[:2])
        wait_for_note(page, "All 2")

    def test_a_folder_dropped_or_chosen(self, page: Page, tmp_path: Path, scan: bytes) -> None:
        (tmp_path / "scans" / "deep").mkdir(parents=True)
        for name in ("a.jpg", "deep/b.JPG", ".hidden.jpg", "notes.txt"):
            (tmp_path / "scans" / name).write_bytes(scan)
        (tmp_path / "scans" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
        session = page.context.new_cdp_session(page)
        data = {"items": [], "files": [str(tmp_path / "scans")], "dragOperationsMask": 1}
        for event in ("dragEnter", "dragOver", "drop"):
            drag = {"type": event, "x": 200, "y": 300, "data": data}
            session.send("Input.dispatchDragEvent", drag)
        wait_for_note(page, "All 2")
        assert sorted(read_names(page)) == ["scans/a.jpg", "scans/deep/b.JPG"]
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Choose a folder").click()
        chooser.value.set_files(tmp_path / "scans")
        wait_for_note(page, "All 2 scans are in the table already.")
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "notes.txt").write_text("none")
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Choose a folder").click()
        chooser.value.set_files(tmp_path / "empty")
        assert "no images in that folder" in page.get_by_role("alert").inner_text()


class TestTrouble:
    def test_without_a_connection_nothing_is_lost(
        self, open_page: Callable[..., Page], some: list[Any]
    ) -> None:
        page = open_page()
        page.clock.install()  # it pauses before it sends again
        page.context.set_offline(True)
        give(page, *some)
        row = page.locator("tr[data-state=sent]")
        row.first.wait_for()
        for _ in range(40):
            page.clock.run_for(1000)
            if page.locator("tr[data-state=unanswered]").count() == 5:
                break
        assert "5 scans are still here" in page.locator("#many-note").inner_text()
        assert page.get_by_role("button", name="Predict the other 5").is_visible()
        page.context.set_offline(False)  # it goes on by itself
        wait_for_note(page, "All 5")
        assert page.locator("tr[data-state=predicted]").count() == 4

    def test_one_row_is_tried_again(self, page: Page, scan: bytes) -> None:
        gone: list[int] = []

        def refuse_once(route: Any) -> None:
            if gone:
                route.continue_()
            else:
                gone.append(1)
                problem = json.dumps({"title": "No model", "detail": "No model is served."})
                route.fulfill(status=503, content_type="application/problem+json", body=problem)

        page.route("**/many", refuse_once)
        give(page, image(scan, "a.jpg"), image(scan, "b.jpg"))
        wait_for_note(page, "Needing a look: 2")
        assert page.locator(".remarks", has_text="No model is served.").count() == 2
        page.get_by_role("button", name="Try again").first.click()
        wait_for_note(page, "Needing a look: 1")

    def test_a_proxy_that_takes_no_large_requests(self, page: Page, scan: bytes) -> None:
        def refuse(route: Any) -> None:
            if len(route.request.post_data_buffer) > 1.5 * len(scan):
                route.fulfill(status=413, content_type="text/html", body="<h1>Too Large</h1>")
            else:
                route.continue_()

        page.route("**/many", refuse)
        give(page, image(scan, "a.jpg"), image(scan, "b.jpg"), image(scan * 2, "large.jpg"))
        wait_for_note(page, "All 3 scans are done. Needing a look: 1")
        assert page.locator(".remarks", has_text="by a proxy in front").count() == 1

    def test_a_busy_server_is_waited_for(self, page: Page, scan: bytes) -> None:
        answers = [429, 503]

        def be_busy(route: Any) -> None:
            if answers:
                route.fulfill(status=answers.pop(), headers={"Retry-After": "1"}, body="{}")
            else:
                route.continue_()

        page.route("**/many", be_busy)
        give(page, image(scan, "a.jpg"), image(scan, "b.jpg"))
        wait_for_note(page, "Continuing in 1 s")
        wait_for_note(page, "All 2 scans are done. Needing a look: 0")

    def test_it_is_stopped_and_goes_on(self, page: Page, scan: bytes) -> None:
        page.route("**/many", lambda route: None)  # no request is ever answered
        give(page, *(image(scan, f"{n}.jpg") for n in range(20)))
        page.get_by_role("button", name="Stop").click()
        wait_for_note(page, "Stopped. 20 scans were not predicted.")
        page.unroute_all()
        page.get_by_role("button", name="Predict the other 20").click()
        wait_for_note(page, "All 20")

    def test_a_large_file_is_sent_and_one_too_large_is_not(
        self, page: Page, tmp_path: Path, draw_scan: Draw
    ) -> None:
        limit = int(page.locator("#many").get_attribute("data-max-bytes"))
        large = draw_scan("BMP", width=2000, height=2000)
        names = ("large.bmp", "larger.bmp", "small.bmp")
        for name, size in zip(names, (limit, limit + 1, len(large)), strict=True):
            (tmp_path / name).write_bytes(large.ljust(size, b"\0"))  # readers ignore what follows
        page.set_input_files("#image", [tmp_path / name for name in names])
        wait_for_note(page, "All 3 scans are done. Needing a look: 1")
        states = page.locator("#many-table tbody tr").evaluate_all("all => all.map(r => r.dataset)")
        assert [state["state"] for state in states] == ["predicted", "large", "predicted"]
        assert page.get_by_text("larger than 20 MB, the most that is accepted").is_visible()


class TestHistory:
    def test_it_is_kept_only_if_it_is_wanted(self, page: Page, draw_scan: Draw) -> None:
        choose(page, draw_scan("PNG"), "before.png")
        keep = page.get_by_label("Keep a history in this browser")
        assert not keep.is_checked()
        keep.check()
        page.get_by_text("Nothing yet").wait_for()
        items = page.locator("#history-list li")
        choose(page, draw_scan("PNG"), "first.png")
        items.first.wait_for()
        choose(page, draw_scan("TIFF"), "second.tiff")
        items.nth(1).wait_for()
        page.reload()
        items.nth(1).wait_for()
        assert items.locator("strong").all_inner_texts() == ["second.tiff", "first.png"]
        assert items.locator("img[src^='blob:']").count() == 2
        items.nth(1).get_by_role("button", name="first.png").first.click()
        wait_for_result(page, "first.png")
        page.locator("#history-list li strong", has_text="first.png").wait_for()
        page.get_by_role("button", name="Delete second.tiff from the history").click()
        items.nth(1).wait_for(state="detached")
        assert items.locator("strong").all_inner_texts() == ["first.png"]
        page.get_by_role("button", name="Delete all").click()
        items.first.wait_for(state="detached")
        choose(page, draw_scan("PNG"), "third.png")
        items.first.wait_for()
        keep.uncheck()
        items.first.wait_for(state="detached")
        page.reload()
        assert not keep.is_checked()
        keep.check()
        page.get_by_text("Nothing yet").wait_for()
