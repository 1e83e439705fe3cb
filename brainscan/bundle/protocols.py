"""The protocols under which scans are divided, by the names that a card gives them."""

from typing import Literal, get_args

Protocol = Literal[
    "variants-75-25",
    "official",
    "random-75-25",
    "random-80-20",
    "grouped",
    "patient",
    "leave-one-source-out",
]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)  # the strictest last
