"""A head and its slices in a real browser: the slider, and what follows it."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.cards import VERDICTS
from tests.heads import write_series, write_volume
from tests.tumorapp.pages import Page, choose, image, wait_for_result
from tumorapp import create_app

pytestmark = pytest.mark.browser

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    """The application with a model that knows nothing but tumours and marks what is bright."""
    root = tmp_path_factory.mktemp("models")
    publish_model(root, "mobilenet-v2", classes=("glioma", "meningioma"), **VERDICTS["tumor"])
    return create_app({"MODELS_DIR": root, "JOBS_DIR": tmp_path_factory.mktemp("jobs")})


def choose_volume(page: Page) -> None:
    choose(page, write_volume(), "head.nii.gz")


def wait_for_slice(page: Page, number: int) -> None:
    page.locator("#slice", has_text=f"Slice {number} of 4").wait_for()


def read_form(page: Page) -> tuple[list[str], list[str]]:
    """Give the names of the files that the form sends, and the frame."""
    form = "new FormData(document.getElementById('predict'))"
    files = page.evaluate(f"{form}.getAll('image').map((file) => file.name)")
    return files, page.evaluate(f"{form}.getAll('frame')")


def find_outline(page: Page) -> float:
    """Give where the outline is, as a share of the stage's width."""
    stage, region = (page.locator(one).bounding_box() for one in ("#stage", "#lesion polygon"))
    share: float = (region["x"] + region["width"] / 2 - stage["x"]) / stage["width"]
    return share


def test_keys_turn_and_the_outline_follows(open_page: Open) -> None:
    page = open_page(viewport={"width": 1280, "height": 900})
    choose_volume(page)
    slider = page.get_by_role("slider", name="Slice")
    slider.focus()
    page.keyboard.press("Home")
    wait_for_slice(page, 1)
    assert slider.get_attribute("aria-valuetext").startswith("Slice 1 of 4, 0.0 mm: ")
    first = find_outline(page)
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    wait_for_slice(page, 3)
    assert find_outline(page) - first == pytest.approx(0.2 * 100 / 110, abs=0.04)
    page.keyboard.press("End")
    wait_for_slice(page, 4)
    page.keyboard.press("Alt+h")
    assert page.locator("#lesion").is_hidden()
    page.keyboard.press("ArrowLeft")
    wait_for_slice(page, 3)
    assert page.locator("#lesion").is_hidden()  # what the visitor chose stays


def test_the_wheel_turns_and_so_does_a_click_on_the_strip(open_page: Open) -> None:
    page = open_page(viewport={"width": 1280, "height": 900})
    choose_volume(page)
    strip = page.locator(".strip").bounding_box()
    for number in (1, 4, 2):
        page.mouse.click(strip["x"] + (number - 0.5) / 4 * strip["width"], strip["y"] + 20)
        wait_for_slice(page, number)
    page.locator("#stage").hover()
    for number in (3, 4, 4):
        page.mouse.wheel(0, 100)
        wait_for_slice(page, number)
    assert page.evaluate("scrollY") == 0
    page.mouse.wheel(0, -100)
    wait_for_slice(page, 3)


def test_a_finger_turns(open_page: Open) -> None:
    page = open_page(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    choose_volume(page)
    page.locator("#stage").scroll_into_view_if_needed()
    stage = page.locator("#stage").bounding_box()
    device = page.context.new_cdp_session(page)

    def touch(kind: str, share: float) -> None:
        point = {"x": stage["x"] + share * stage["width"], "y": stage["y"] + stage["height"] / 2}
        points = [] if kind == "touchEnd" else [point]
        device.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.99)
    for share in (0.8, 0.5, 0.2, 0.01):
        touch("touchMove", share)
    touch("touchEnd", 0)
    wait_for_slice(page, 1)


def test_a_drag_changes_contrast_and_brightness(page: Page) -> None:
    choose_volume(page)
    before = page.locator("#slice").inner_text()
    page.locator("#stage").hover(position={"x": 100, "y": 100})
    page.mouse.down()
    page.locator("#stage").hover(position={"x": 160, "y": 60})
    page.mouse.up()
    filters = "getComputedStyle(document.getElementById('scan')).filter"
    assert page.evaluate(filters) == "brightness(1.2) contrast(1.3)"
    assert page.get_by_label("Contrast").input_value() == "130"
    page.mouse.dblclick(*(page.locator("#stage").bounding_box()[side] + 90 for side in "xy"))
    assert page.evaluate(filters) == "brightness(1) contrast(1)"
    assert page.locator("#slice").inner_text() == before


def test_more_is_asked_about_the_slice_on_the_stage(page: Page) -> None:
    choose_volume(page)
    page.get_by_role("slider", name="Slice").focus()
    for key, number in (("Home", 1), ("ArrowRight", 2)):
        page.keyboard.press(key)
        wait_for_slice(page, number)
    assert read_form(page) == (["head.nii.gz"], ["1"])
    page.get_by_role("button", name="And without the marked region?").click()
    page.locator("section#counterfactual").wait_for()
    page.get_by_role("slider", name="Slice").press("End")
    wait_for_slice(page, 4)
    assert page.locator("section#counterfactual").count() == 0  # it was of another slice
    page.get_by_role("button", name="See every step").click()
    page.locator("#steps .subject", has_text="head.nii.gz").wait_for()
    assert page.locator("[name=frame]").input_value() == "3"
    page.go_back()
    wait_for_result(page, "head.nii.gz")


def test_files_of_a_series_are_one_scan(page: Page, scan: bytes) -> None:
    series = [image(data, name) for name, data in write_series()]
    page.set_input_files("#image", series)
    wait_for_result(page, "3.dcm (4 files)")
    assert page.locator("#many").is_hidden()
    page.get_by_role("slider", name="Slice").press("Home")
    wait_for_slice(page, 1)
    assert read_form(page) == (["0.dcm"], ["0"])
    others = [image(scan, "scan.jpg"), image(write_volume(), "v.nii.gz")]
    page.set_input_files("#image", [*series, *others])
    page.locator("#many-note", has_text="All 3 scans are done").wait_for()
    rows: Any = page.locator("#many-table .open").all_inner_texts()
    assert rows == ["0.dcm … 3.dcm", "scan.jpg", "v.nii.gz"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    table = Path(download.value.path()).read_text(encoding="utf-8-sig")
    strongest = [line["strongest"] for line in csv.DictReader(io.StringIO(table))]
    assert [bool(one) for one in strongest] == [True, False, True]
    for name in ("v.nii.gz", "0.dcm … 3.dcm"):
        page.get_by_role("button", name=name).click()
        page.locator("#many-table [aria-current=true]", has_text=name).wait_for()
        assert page.get_by_role("slider", name="Slice").get_attribute("max") == "4"
