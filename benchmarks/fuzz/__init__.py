"""Damaged inputs for what reads uploads, and damaged cards for the pages."""

from dataclasses import dataclass


@dataclass(eq=False)
class FuzzError(Exception):
    """An input that led to neither a result nor a refusal."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"Input {self.number}: {self.reason}"
