"""What an audit found, as one page that needs no other file."""

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from brainscan.files import write_text
from brainscan.scan import ScanError, read_picture
from training.data.audit.findings import KINDS, Audit, Finding, describe_table

SHOWN = 24
_SIDE = 144
_QUALITY = 72
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=True,
)
_TEMPLATES.filters |= {"thousands": "{:,}".format, "percent": "{:.0%}".format}


def write_page(page: Path, audit: Audit) -> None:
    """Write the page; of each kind of finding it shows the first 24 with thumbnails."""
    found = [kind for kind in KINDS if audit.findings[kind.code]]
    text = _TEMPLATES.get_template("page.html.jinja").render(
        audit=audit,
        found=found,
        clean=[kind for kind in KINDS if kind not in found],
        shown={kind.code: _vary(audit, audit.findings[kind.code])[:SHOWN] for kind in found},
        draw=_draw,
        sets=tuple(dict.fromkeys(audit.sets)),
        groups=len(np.unique(audit.groups)),
        describe_table=describe_table,
    )
    write_text(page, text)


def _vary(audit: Audit, findings: Sequence[Finding]) -> list[Finding]:
    """Put one of each group of near-duplicates first, else all that is shown may be one picture."""
    counts: Counter[int] = Counter()
    turns = []
    for finding in findings:
        group = int(audit.groups[finding.scan])
        turns.append(counts[group])
        counts[group] += 1
    return [findings[place] for place in np.argsort(turns, kind="stable")]


def _draw(path: Path) -> str | None:
    """Give a small JPEG of a scan as a data URI; None where it cannot be read."""
    try:
        data = path.read_bytes()
        picture = read_picture(data)
    except (ScanError, OSError):
        return None
    shown: cv2.typing.MatLike | None = None
    if any(note.code == "annotated" for note in picture.notes):  # and removed
        shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if shown is None:
        shown = picture.grey
    scale = min(1.0, _SIDE / max(picture.size))
    size = tuple(max(1, round(length * scale)) for length in picture.size)
    small = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"
