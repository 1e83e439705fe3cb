"""Bundles are opened, the newest that is good, and checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainscan import open_model
from brainscan.bundle import BundleError, Card, pin_version, publish_bundle
from brainscan.engine import EngineError
from brainscan.familiarity import FAMILIARITY_FILE, Familiarity
from tests.cards import LESION_NETWORK, draw_up_card
from tests.conftest import write_graph

Publish = Callable[..., Path]


def test_the_newest_version(tmp_path: Path, publish_model: Publish) -> None:
    first, second = publish_model(tmp_path), publish_model(tmp_path)
    assert open_model(tmp_path / "mobilenet-v2").card.version == 2
    assert open_model(str(second)).card.version == 2
    assert open_model(first).card.version == 1


def test_a_chosen_one(tmp_path: Path, publish_model: Publish) -> None:
    for _ in range(2):
        publish_model(tmp_path)
    pin_version(tmp_path, "mobilenet-v2", 1)
    assert open_model(tmp_path / "mobilenet-v2").card.version == 1


def test_an_older_good_one(tmp_path: Path, publish_model: Publish) -> None:
    publish_model(tmp_path)
    (publish_model(tmp_path) / "graph.xml").write_text("changed")
    assert open_model(tmp_path / "mobilenet-v2").card.version == 1
    (tmp_path / "mobilenet-v2" / "1" / "graph.bin").unlink()
    with pytest.raises(BundleError, match=r"No version of mobilenet-v2 can be used.*graph\.bin"):
        open_model(tmp_path / "mobilenet-v2")


def test_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no published model in"):
        open_model(tmp_path / "missing")


@pytest.mark.parametrize(
    ("changes", "graph", "reason"),
    [
        ({"refusal": None}, LESION_NETWORK, None),
        ({"decision": None}, LESION_NETWORK, "whether there is a lesion map"),
        ({}, {**LESION_NETWORK, "decision": None}, "whether there is a lesion map"),
        ({}, {**LESION_NETWORK, "refusal": None}, "its graph has no features"),
    ],
)
def test_a_graph_that_gives_otherwise_than_the_card_says(
    tmp_path: Path, changes: Any, graph: Any, reason: str | None
) -> None:
    def write(folder: Path, _: Card) -> None:
        known = Familiarity(np.zeros((1, 8), np.float32), np.eye(8, dtype=np.float32))
        known.write(folder)
        write_graph(folder, draw_up_card(**graph))

    folder = publish_bundle(tmp_path, draw_up_card(**{**LESION_NETWORK, **changes}), write)
    if reason is None:
        assert open_model(folder).familiarity is None
    else:
        with pytest.raises(EngineError, match=reason):
            open_model(folder)


def test_without_the_features_of_known_scans(tmp_path: Path) -> None:
    def write(folder: Path, card: Card) -> None:
        write_graph(folder, card)
        Familiarity(np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32)).write(folder)

    folder = publish_bundle(tmp_path, draw_up_card(**LESION_NETWORK), write)
    with pytest.raises(EngineError, match=r"familiarity\.npz cannot be used"):
        open_model(folder)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_with_damaged_features_of_known_scans(tmp_path: Path, data: bytes) -> None:
    def write(folder: Path, card: Card) -> None:
        write_graph(folder, card)
        (folder / FAMILIARITY_FILE).write_bytes(data)

    folder = publish_bundle(tmp_path, draw_up_card(**LESION_NETWORK), write)
    with pytest.raises(EngineError, match=r"familiarity\.npz cannot be used"):
        open_model(folder)
