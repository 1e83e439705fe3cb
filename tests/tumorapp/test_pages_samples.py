"""The samples that the page offers."""

import pytest
from flask.testing import FlaskClient

from tests.tumorapp.markup import HTML, Page, read_picture


def test_each_is_predicted_by_a_button_of_its_own(client: FlaskClient) -> None:
    page = Page(client.get("/").text)
    buttons = [found for found in page.all("button") if found.get("name") == "sample"]
    assert len(buttons) == 4
    for button in buttons:
        assert button["form"] == "samples"
        fields = {"sample": button["value"], "preview": "1"}
        answer = client.post("/", data=fields, headers=HTML)
        assert answer.status_code == 200
        found = Page(answer.text)
        assert f"{button['value']}.webp" in found.text
        assert max(read_picture(found.by_id("scan")["src"]).size) == 256
        with client.get(button["data-scan"]) as file:
            assert file.mimetype == "image/webp"
            assert len(file.data) < 25_000


@pytest.mark.parametrize("name", ["slice-9", "../page", "slice-1.webp"])
def test_one_that_is_not_there(client: FlaskClient, name: str) -> None:
    response = client.post("/", data={"sample": name}, headers=HTML)
    assert response.status_code == 400
    assert "Accepted: slice-1; slice-2" in Page(response.text).text


def test_their_origin_is_told(client: FlaskClient) -> None:
    links = [link["href"] for link in Page(client.get("/").text).all("a")]
    [origin] = [address for address in links if address.endswith("README.txt")]
    with client.get(origin) as file:
        text = file.get_data(as_text=True)
    for name in ("slice-1", "slice-2", "slice-3", "slice-4", "ICBM 152", "McConnell"):
        assert name in text
