"""The pages of a model whose card is damaged."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
from flask import Flask

from benchmarks.fuzz import FuzzError
from brainscan.bundle import Card
from tumorapp.catalog import Catalog

# Of a wrong type, out of every range, or hard to write.
_WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    0.5,
    7,
    10**400,
    1e308,
    5e-324,
    "",
    "9" * 5000,
    "\ud800",
    "<b>",
    [],
    {},
)


def fuzz_cards(app: Flask, first: int, inputs: int, seed: int) -> Counter[str]:
    """Change a value in the card of a served model; what is still accepted must be shown.

    Raises:
        FuzzError: an exception that is not a refusal.
    """
    client, outcomes = app.test_client(), Counter[str]()
    served = dict(app.extensions["catalog"].models)
    for number in range(first, first + inputs):
        random = np.random.default_rng((seed, number))
        name = random.choice(sorted(served))
        raw = json.loads(served[name].card.to_json())
        _spoil(raw, random)
        try:
            card = Card.from_json(json.dumps(raw))
        except ValueError:
            outcomes["card refused"] += 1
            continue
        with patch.object(Catalog, "models", {name: replace(served[name], card=card)}):
            for page in ("/", "/models", f"/models/{name}/{card.version}?lang=de"):
                try:
                    client.get(page).close()
                except Exception as error:
                    raise FuzzError(number, f"{page}: {type(error).__name__}: {error}") from error
        outcomes["card read"] += 1
    return outcomes


def _spoil(value: Any, random: np.random.Generator) -> None:
    """Change one value, at any depth, of the dictionaries and lists that JSON holds."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[random.integers(len(keys))]
    if isinstance(value[key], dict | list) and value[key] and random.random() < 0.9:
        _spoil(value[key], random)
    else:
        value[key] = _WRONG[random.integers(len(_WRONG))]
