"""Figures of a model as a page writes them, in its language; what is not known is a dash."""

import math

from tumorapp.language.translation import translate, write_decimal, write_percent

NONE = "–"


def write_share(share: float | None) -> str:
    """Write a share of 0 to 1: 0.9772 → "97.72%", 0.94 → "94.00%", None → "–"."""
    return NONE if share is None or not math.isfinite(share) else write_percent(share, 2)


def write_number(number: float | None, digits: int = 0) -> str:
    """Write a number: 2263108 → "2,263,108", None → "–"."""
    return NONE if number is None or not math.isfinite(number) else write_decimal(number, digits)


def write_difference(number: float) -> str:
    """Write a number of 0 to 1, often a small one, with two digits: 6.13e-05 → "0.000061"."""
    digits = 1 - math.floor(math.log10(number)) if 0 < number < 1 else 2
    return write_number(number, digits)


def write_published(share: float | None) -> str:
    """Write a share with no more digits than were published: 0.94 → "94%", 0.9977 → "99.77%"."""
    return NONE if share is None else write_percent(share, _count_digits(round(share * 100, 2)))


def write_stated(number: float) -> str:
    """Write a number with no more digits than were published: 0.3847 → "0.3847", 0.9 → "0.9"."""
    return write_decimal(number, _count_digits(number))


def write_interval(interval: tuple[float, float] | None) -> str:
    """Write an interval of shares: (0.9486, 0.9807) → "94.86 to 98.07%"."""
    if not interval:
        return ""
    low, high = write_decimal(interval[0] * 100, 2), write_percent(interval[1], 2)
    return translate("%(low)s to %(high)s", low=low, high=high)


def _count_digits(number: float) -> int:
    """Count the digits after the point that a number was stated with."""
    return len(f"{number:g}".partition(".")[2])
