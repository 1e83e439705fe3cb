from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainscan import (
    Examination,
    ImageFile,
    Model,
    Problem,
    ScanError,
    SeriesExamination,
    examine_files,
    open_model,
)
from brainscan.series import find_series
from tests.volumes import draw_small, write_dicom, write_nifti, write_slices

SAMPLES = Path("../shared/samples")


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("instance/models/lesion-lite0")


def write_series(name: str, positions: list[float], uid: str = "1.2.3.4") -> list[ImageFile]:
    return [
        ImageFile(f"{name}/{number}.dcm", data)
        for number, data in enumerate(write_slices(positions, uid))
    ]


def examine_whole(model: Model, *files: ImageFile) -> SeriesExamination:
    [whole] = examine_files(model, files)
    assert isinstance(whole, SeriesExamination)
    return whole


def list_codes(whole: SeriesExamination) -> set[str]:
    return {warning.code for warning in whole.warnings}


def test_files_of_a_series_are_put_in_order(model: Model) -> None:
    whole = examine_whole(model, *write_series("a", [30, 10, 20]))
    assert [one.position for one in whole.slices] == [10, 20, 30]
    assert [one.name for one in whole.slices] == ["a/1.dcm", "a/2.dcm", "a/0.dcm"]
    assert [one.index for one in whole.slices] == [0, 1, 2]
    assert whole.name == "a"


def test_each_series_has_its_own_answer(model: Model) -> None:
    first, second = write_series("a", [1, 2], "1.2"), write_series("b", [1, 2], "1.3")
    files = [first[0], second[0], ImageFile("c", b"none"), first[1], second[1]]
    one, other, refused = examine_files(model, files)
    assert isinstance(one, SeriesExamination)
    assert isinstance(other, SeriesExamination)
    assert isinstance(refused, ScanError)
    assert (one.name, other.name, refused.message.subject) == ("a", "b", "c")


def test_gaps_and_slices_at_one_place(model: Model) -> None:
    gap = examine_whole(model, *write_series("a", [0, 5, 10, 25]))
    [warning] = [one for one in gap.warnings if one.code == "missing-slices"]
    assert warning.values["slices"] == 2
    twice = examine_whole(model, *write_series("a", [0, 5, 5, 10]))
    assert len(twice.slices) == 3
    assert "one-of-each" in list_codes(twice)
    uneven = examine_whole(model, *write_series("a", [0, 5, 10, 11]))
    assert "missing-slices" not in list_codes(uneven)


def test_copies_of_one_slice_are_answered_as_the_slice_is(model: Model) -> None:
    file = ImageFile("a", write_slices([1])[0])
    [alone] = examine_files(model, [file])
    [again] = examine_files(model, [file, file])
    assert isinstance(again, Examination)
    assert again.probabilities == alone.probabilities
    assert again.warnings[0].code == "one-of-each"


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


def test_too_many_slices(model: Model) -> None:
    with pytest.raises(Problem) as caught:
        examine_files(model, write_series("a", [1, 2, 3]), max_slices=2)
    assert caught.value.code == "too-many-slices"
    large = ImageFile("large", write_dicom(np.tile(draw_small(), (64, 48))))  # 3 megapixels
    assert len(examine_files(model, [large], max_slices=3)) == 1
    with pytest.raises(Problem):
        examine_files(model, [large], max_slices=2)


def test_nothing_is_examined_where_a_file_is_not_to_be_skipped(model: Model) -> None:
    seen: list[object] = []
    observed = replace(model, observe=lambda found, _: seen.extend(found))
    files = [*write_series("a", [1, 2]), ImageFile("b", b"none")]
    with pytest.raises(ScanError, match="b: "):
        examine_files(observed, files, skip_bad=False)
    assert not seen
    examine_files(observed, files)
    assert len(seen) == 1


def test_a_blank_slice_is_refused_only_where_it_is_alone(model: Model) -> None:
    blank = np.zeros((32, 32), np.uint16)
    alone, *_ = write_slices([1], pixels=[blank])
    [refused] = examine_files(model, [ImageFile("a", alone)])
    assert isinstance(refused, ScanError)
    assert refused.code == "blank-image"
    files = write_slices([1, 2, 3], pixels=[blank, draw_small(), draw_small()])
    assert len(examine_whole(model, *(ImageFile("a", data) for data in files)).slices) == 3


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
