from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainscan import ImageFile, Model, SeriesExamination, examine_files, open_model
from brainscan.series import find_series
from tests.volumes import write_dicom, write_files, write_nifti, write_slices

SAMPLES = Path("../shared/samples")


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("instance/models/lesion-lite0")


def examine_whole(model: Model, *files: ImageFile) -> SeriesExamination:
    [whole] = examine_files(model, files)
    assert isinstance(whole, SeriesExamination)
    return whole


def list_codes(whole: SeriesExamination) -> set[str]:
    return {warning.code for warning in whole.warnings}


def test_files_of_a_series_are_put_in_order(model: Model) -> None:
    whole = examine_whole(model, *write_files("a", [30, 10, 20]))
    assert [one.position for one in whole.slices] == [10, 20, 30]
    assert [one.name for one in whole.slices] == ["a/1.dcm", "a/2.dcm", "a/0.dcm"]
    assert [one.index for one in whole.slices] == [0, 1, 2]
    assert whole.name == "a"


def test_gaps_and_slices_at_one_place(model: Model) -> None:
    gap = examine_whole(model, *write_files("a", [0, 5, 10, 25]))
    [warning] = [one for one in gap.warnings if one.code == "missing-slices"]
    assert warning.values["slices"] == 2
    twice = examine_whole(model, *write_files("a", [0, 5, 5, 10]))
    assert len(twice.slices) == 3
    assert "one-of-each" in list_codes(twice)
    uneven = examine_whole(model, *write_files("a", [0, 5, 10, 11]))
    assert "missing-slices" not in list_codes(uneven)


@pytest.mark.parametrize(
    "elements",
    [{}, {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 0]}],
)
def test_slices_of_which_nobody_knows_where_they_lie_are_in_the_order_of_their_numbers(
    model: Model, elements: dict[str, Any]
) -> None:
    files = [
        ImageFile(
            f"{number}", write_dicom(SeriesInstanceUID="1.2", InstanceNumber=number, **elements)
        )
        for number in (10, 1, 2)
    ]
    assert [one.name for one in examine_whole(model, *files).slices] == ["1", "2", "10"]


def test_names_that_have_nothing_in_common(model: Model) -> None:
    first, second = write_slices([1, 2])
    files = [ImageFile("/a/1", first), ImageFile("b/2", second)]
    assert examine_whole(model, *files).name == "/a/1"


def test_which_series_a_file_is_of() -> None:
    first, second = write_slices([1, 2])
    [other] = write_slices([1], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    [nearly] = write_slices([1], ImageOrientationPatient=[1, -1e-9, 0, 0, 1, 0])
    assert find_series(first) == find_series(second) == find_series(nearly) != find_series(other)
    assert {find_series(data) for data in (write_dicom(), b"none", first[:200])} == {""}


@pytest.mark.skipif(not SAMPLES.exists(), reason="needs the samples")
class TestRealVolumes:
    def examine(self, model: Model, name: str) -> SeriesExamination:
        data = (SAMPLES / "nifti" / f"{name}.nii.gz").read_bytes()
        return examine_whole(model, ImageFile(name, data))

    def test_a_tumour(self, model: Model) -> None:
        import nibabel

        whole = self.examine(model, "btp_02_t1post")
        assert whole.tumor
        assert whole.label == "glioma"
        mask = np.asarray(nibabel.load(SAMPLES / "nifti" / "btp_02_mask.nii.gz").dataobj)
        truth = mask.any(axis=(0, 1))
        assert truth[whole.strongest]
        shows = np.array([one.shows for one in whole.slices])
        assert (shows & truth).sum() >= 0.8 * truth.sum()
        assert whole.volume is not None

    @pytest.mark.parametrize("name", ["chris_t1", "chris_PD", "MR_Gd"])
    def test_a_healthy_head(self, model: Model, name: str) -> None:
        whole = self.examine(model, name)
        assert whole.verdict == "no-tumor"
        assert whole.lesion is None
        assert whole.volume is None
        assert not any(one.shows for one in whole.slices)

    def test_why_there_is_no_heat_map(self) -> None:
        model = open_model("instance/models/binary-cnn")
        file = ImageFile("head", (SAMPLES / "nifti" / "btp_02_t1post.nii.gz").read_bytes())
        [whole] = examine_files(model, [file], want_heatmaps=True)
        assert isinstance(whole, SeriesExamination)
        assert whole.heatmap is None
        assert {"no-reliable-map", "series-not-fitted"} <= list_codes(whole)

    def test_a_ct(self, model: Model) -> None:
        whole = self.examine(model, "CT_AVM")
        assert whole.verdict == "not-recognised"
        assert whole.heatmap is None


def test_a_volume_of_noise_is_not_a_head(model: Model) -> None:
    noise = np.random.default_rng(0).integers(0, 900, (40, 40, 6)).astype(np.int16)
    assert examine_whole(model, ImageFile("a.nii", write_nifti(noise))).verdict == "not-recognised"
