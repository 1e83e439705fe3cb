"""A series in one request, compared with its slices predicted one by one.

    python -m benchmarks.series ../shared/samples/nifti/chris_t1.nii.gz

The slices of the volume are sent as they are, in one NIfTI file, and as the DICOM files of a
series, in one form and in one ZIP; the request is answered without HTTP. One by one, the same model
reads and predicts each slice as a DICOM file of its own. The best of several turns counts, because
other work on the machine can only slow a turn down.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

from werkzeug.datastructures import FileStorage, MultiDict

from brainscan import ImageFile, examine_files
from tests.volumes import pack, write_series_of
from tumorapp import create_app


def main() -> None:
    """Measure each way in turn and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("volume", type=Path, help="a NIfTI file")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    app = create_app({"MAX_UPLOAD_MB": 512})
    client, catalog = app.test_client(), app.extensions["catalog"]
    model = catalog.get(None)
    volume = arguments.volume.read_bytes()
    slices = enumerate(write_series_of(arguments.volume, "1.2.3"))
    files = [ImageFile(f"series/{number}.dcm", data) for number, data in slices]
    archive = pack(*((file.name, file.data) for file in files))

    def predict_each() -> None:
        for file in files:
            examine_files(model, [file])

    def post(data: object, content_type: str) -> None:
        answer = client.post("/api/predict", data=data, content_type=content_type)
        [found] = answer.get_json()["predictions"]
        if len(found["slices"]) != len(files):
            raise SystemExit(f"{len(found['slices'])} of {len(files)} slices were predicted.")

    def post_form() -> None:
        parts = [("image", FileStorage(io.BytesIO(file.data), file.name)) for file in files]
        post(MultiDict(parts), "multipart/form-data")

    ways: dict[str, Callable[[], None]] = {
        "one by one": predict_each,
        "NIfTI": lambda: post(volume, "application/octet-stream"),
        "DICOM files in a form": post_form,
        "DICOM files in a ZIP": lambda: post(archive, "application/zip"),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - start)
    for name, seconds in best.items():
        ratio = seconds / best["one by one"]
        print(f"{name:24} {len(files)} slices {seconds:6.2f} s {ratio:6.2f} × one by one")


if __name__ == "__main__":
    main()
