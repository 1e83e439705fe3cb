"""Predictions as CSV."""

import csv
import io

import pytest

from tumorapp.prediction_table import open_table

# Names of files, and what the cell says where a spreadsheet would run them.
HOSTILE = {
    "=1+1.png": "'=1+1.png",
    "-1.png": "'-1.png",
    "+1.png": "'+1.png",
    "@SUM(1).png": "'@SUM(1).png",
    "\uff1d1.png": "'\uff1d1.png",
    "\uff20SUM(1).png": "'\uff20SUM(1).png",
    " =1.png": " '=1.png",
    "\r\n=1.png": "\r\n'=1.png",
    "\t=1.png": "\t'=1.png",
    "a;=1.png": "a;'=1.png",
    'a; "=1;\uff0b2.png': "a; \"'=1;'\uff0b2.png",
    "a\n-1.png": "a\n'-1.png",
    "a-1 (=2), +3; b.png": "a-1 (=2), +3; b.png",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_formula_is_written_as_text(name: str) -> None:
    file = io.StringIO()
    open_table(["glioma"], file).writerow({"file": name, "confidence": -0.5})
    [row] = csv.DictReader(io.StringIO(file.getvalue(), newline=""))
    assert (row["file"], row["confidence"]) == (HOSTILE[name], "-0.5")


def test_the_name_of_a_class_is_one_too() -> None:
    file = io.StringIO()
    open_table(["a;=1"], file)
    assert "p_a;'=1" in file.getvalue()
