"""`flask deidentify`: copies of DICOM files without what identifies a patient."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from brainscan import ScanError
from brainscan.files import open_file, write_bytes
from brainscan.scan.formats import FORMATS
from tumorapp.file_names import clean_name

if TYPE_CHECKING:
    from brainscan.deidentify import Deidentifier

_BEGINNING = 4096  # bytes, by which a DICOM file is recognised
_WRITTEN, _LEFT_OUT, _SKIPPED = "written", "left out", "skipped"
_EXAMPLES = """
\b
Examples:
  flask deidentify study/ clean/
  flask deidentify study/ clean/ --dates shift
  flask deidentify slice.dcm clean/
"""


@click.command("deidentify", epilog=_EXAMPLES)
@click.argument("source", type=click.Path(exists=True, path_type=Path), metavar="IN")
@click.argument("target", type=click.Path(file_okay=False, path_type=Path), metavar="OUT")
@click.option(
    "--dates",
    type=click.Choice(["remove", "shift"]),
    default="remove",
    show_default=True,
    help="Remove dates and times, or make the dates of each patient earlier by a random number of "
    "days, the same for all of them; times of day stay.",
)
def deidentify_command(source: Path, target: Path, dates: str) -> None:
    """Write copies of the DICOM files of IN into the new folder OUT, without identifiers.

    IN is a file, or a folder with all that is below it. Headers are cleaned by the Basic
    Application Level Confidentiality Profile of DICOM PS3.15; private elements go, and UIDs are
    replaced, the same ones by the same. The copies are named by their new UIDs, study by study.

    Pixels stay as they are: there is a warning of text in a picture where the header suggests some,
    and slices of a whole head still show a face. Other files, and a DICOMDIR, are left out. A file
    that cannot be read is listed and skipped; the exit code is then 1.
    """
    from brainscan.deidentify import Deidentifier

    if target.is_dir() and any(target.iterdir()):
        raise click.ClickException(f"{target} is not empty. Name a folder that is new.")
    top = source if source.is_dir() else source.parent
    paths = sorted(source.rglob("*")) if source.is_dir() else [source]
    files = [path for path in paths if path.is_file() or not path.exists()]
    deidentifier, done = Deidentifier(shift_dates=dates == "shift"), Counter[str]()
    for path in tqdm(files, unit="file"):
        outcome, remarks = _write_copy(path, target, deidentifier)
        done[outcome] += 1
        for remark in remarks:
            tqdm.write(f"{clean_name(click.format_filename(path.relative_to(top)))}: {remark}")
    click.echo(f"{done[_WRITTEN]} of {len(files)} files are in {target}, without identifiers.")
    if done[_LEFT_OUT] == len(files):
        raise click.ClickException("No DICOM files were found.")
    if done[_SKIPPED]:
        raise click.ClickException(f"{done[_SKIPPED]} files were skipped; see above.")


def _write_copy(path: Path, target: Path, deidentifier: "Deidentifier") -> tuple[str, list[str]]:
    """Write the copy of a file, if it is DICOM; gives what became of it, and remarks."""
    try:
        with open_file(path) as file:
            beginning = file.read(_BEGINNING)
            if not FORMATS["DICOM"].matches(beginning):
                return _LEFT_OUT, ["left out: it is not DICOM."]
            copy = deidentifier.deidentify(beginning + file.read())
        place = target / copy.place
        if place.exists():
            raise ScanError("repeated-instance")
    except ScanError as error:
        left_out = error.code == "dicomdir"
        return _LEFT_OUT if left_out else _SKIPPED, [f"skipped ({error.code}): {error}"]
    except OSError as error:
        return _SKIPPED, [f"skipped (not-read): {error.strerror}"]
    place.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(place, copy.data)
    return _WRITTEN, [f"warning ({one.code}): {one}" for one in copy.warnings]
