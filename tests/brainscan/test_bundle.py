import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from brainscan.bundle import (
    BundleError,
    Card,
    CurveAreas,
    Faithfulness,
    Origin,
    PublishError,
    installed_versions,
    pin_version,
    pinned_version,
    publish_bundle,
    read_bundle,
    remove_version,
    survey_bundles,
)
from brainscan.bundle.manifest import MANIFEST_FILE, read_manifest, write_manifest
from brainscan.bundle.store import LOCK_FILE
from brainscan.files import lock
from tests.cards import GRAPHS, MEASURED

PROJECT = Path(__file__).parents[2]
MakeCard = Callable[..., Card]


def write_files(folder: Path, card: Card) -> None:
    (folder / "graph.xml").write_text(f"<net>{card.version}</net>")
    (folder / "graph.bin").write_bytes(bytes(range(256)) * 16)
    (folder / "report").mkdir()
    (folder / "report" / "README.md").write_text(f"# {card.name} {card.version}")


@pytest.fixture
def bundle(tmp_path: Path, make_card: MakeCard) -> Path:
    return publish_bundle(tmp_path / "models", make_card(), write_files)


def edit(bundle: Path, **changes: Any) -> None:
    """Change a bundle's card and seal it again."""
    path = bundle / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    write_manifest(bundle)


class TestCard:
    def test_it_survives_being_written_and_read(self, make_card: MakeCard) -> None:
        card = make_card(measurement=replace(MEASURED, accuracy=0.1 + 0.2), graphs=GRAPHS)
        assert Card.from_json(card.to_json()) == card

    def test_what_is_a_tumour(self, make_card: MakeCard) -> None:
        labels = ("glioma", "tumor", "other", "healthy", "notumor")
        assert [make_card().is_tumor(label) for label in labels] == [True] * 3 + [False] * 2

    def test_fields_of_a_later_release_do_no_harm(self, make_card: MakeCard) -> None:
        raw = json.loads(make_card().to_json()) | {"thresholds": [0.5]}
        assert Card.from_json(json.dumps(raw)) == make_card()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("name", "../escape"),
            ("version", 0),
            ("version", "1"),
            ("classes", ["one"]),
            ("scan", {"size": 8, "crop": True}),
            ("parameters", True),
            ("sources", [{"url": "https://example.org"}]),
            ("graphs", {"int8": {}}),
            ("measurement", []),
            ("measurement.accuracy", 1.5),
            ("measurement.accuracy", None),
            ("measurement.by_class", {}),
            ("measurement.confusion", [[1, 2], [3, 4]]),
            ("measurement.intervals.accuracy", [0.5]),
            ("measurement.leaks.scans", -1),
            ("measurement.faithfulness.unlearned", 1e308),
            ("training.recipe", {"batch": [32]}),
            ("training.recipe", {"weight_decay": -1e308}),
            ("training.seed", 10**400),
            ("origin.moved_by_rounding", 1e308),
            ("format", 2),
            ("format", None),
        ],
    )
    def test_a_wrong_field_is_named(self, make_card: MakeCard, field: str, value: Any) -> None:
        areas = CurveAreas(0.2, 0.8)
        measured = replace(MEASURED, faithfulness=Faithfulness(areas, areas, areas, 0.1, 9))
        origin = Origin("net.h5", "0" * 64, "0..1", logits=False, moved_by_rounding=0.0)
        card = make_card(graphs=GRAPHS, measurement=measured, origin=origin)
        raw = inner = json.loads(card.to_json())
        *outer, last = field.split(".")
        for name in outer:
            inner = inner[name]
        inner[last] = value
        with pytest.raises(ValueError, match=rf"card\.json: .*{field}"):
            Card.from_json(json.dumps(raw))

    @pytest.mark.parametrize("field", ["name", "measurement"])
    def test_a_missing_field_is_named(self, make_card: MakeCard, field: str) -> None:
        raw = json.loads(make_card().to_json())
        del raw[field]
        with pytest.raises(ValueError, match=f"missing required field `{field}`"):
            Card.from_json(json.dumps(raw))

    @pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"a":' * 100_000, '{"loss": NaN}'])
    def test_text_that_is_no_card(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"card\.json"):
            Card.from_json(text)


class TestReading:
    def test_a_whole_bundle(self, bundle: Path, make_card: MakeCard) -> None:
        assert read_bundle(bundle) == make_card()
        files = ["card.json", "graph.bin", "graph.xml", "report/README.md"]
        assert sorted(read_manifest(bundle)) == files

    @pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
    def test_its_manifest_is_one_of_sha256sum(self, bundle: Path) -> None:
        command = ["sha256sum", "--check", MANIFEST_FILE]
        done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=True)
        assert done.stdout.count(": OK") == 4

    def test_a_changed_file_is_named(self, bundle: Path) -> None:
        data = bytearray((bundle / "graph.bin").read_bytes())
        data[-1] ^= 1
        (bundle / "graph.bin").write_bytes(data)
        with pytest.raises(BundleError, match=r"Bundle mobilenet-v2/1: graph\.bin was changed"):
            read_bundle(bundle)

    def test_a_changed_card_is_refused(self, bundle: Path) -> None:
        path = bundle / "card.json"
        card = json.loads(path.read_text())
        path.write_text(json.dumps({**card, "classes": card["classes"][::-1]}))
        with pytest.raises(BundleError, match=r"Bundle mobilenet-v2/1: card\.json was changed"):
            read_bundle(bundle)

    @pytest.mark.parametrize("file", ["card.json", "report/README.md", MANIFEST_FILE])
    def test_a_missing_file_is_named(self, bundle: Path, file: str) -> None:
        (bundle / file).unlink()
        with pytest.raises(BundleError, match=rf"/1: {file} cannot be read .*No such"):
            read_bundle(bundle)

    @pytest.mark.parametrize("file", ["card.json", "graph.bin", MANIFEST_FILE])
    @pytest.mark.parametrize(
        "put",
        [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir],
        ids=["pipe", "device", "folder"],
    )
    def test_what_is_not_a_file_is_not_waited_for(
        self, bundle: Path, file: str, put: Callable[[Path], None]
    ) -> None:
        (bundle / file).unlink()
        put(bundle / file)
        with pytest.raises(BundleError, match=rf"/1: {file} cannot be read \(Not a regular file"):
            read_bundle(bundle)

    @pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"{}"])
    def test_a_card_that_is_none(self, bundle: Path, data: bytes) -> None:
        (bundle / "card.json").write_bytes(data)
        write_manifest(bundle)
        with pytest.raises(BundleError, match=r"^Bundle mobilenet-v2/1: card\.json: "):
            read_bundle(bundle)

    @pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"graph.xml", b"abc  graph.xml"])
    def test_a_manifest_that_is_none(self, bundle: Path, data: bytes) -> None:
        (bundle / MANIFEST_FILE).write_bytes(data)
        with pytest.raises(BundleError, match=rf"^Bundle mobilenet-v2/1: {MANIFEST_FILE}"):
            read_bundle(bundle)

    @pytest.mark.parametrize("changes", [{"name": "other"}, {"version": 2}])
    def test_the_card_of_another_bundle(self, bundle: Path, changes: dict[str, Any]) -> None:
        edit(bundle, **changes)
        with pytest.raises(BundleError, match="mobilenet-v2/1: its card is that of"):
            read_bundle(bundle)

    @pytest.mark.parametrize("file", ["card.json", "graph.xml", "graph.bin"])
    def test_a_file_that_the_manifest_does_not_vouch_for(self, bundle: Path, file: str) -> None:
        lines = (bundle / MANIFEST_FILE).read_text().splitlines(keepends=True)
        (bundle / MANIFEST_FILE).write_text("".join(line for line in lines if file not in line))
        with pytest.raises(BundleError, match=f"{MANIFEST_FILE} lists no {file}"):
            read_bundle(bundle)

    @pytest.mark.parametrize("file", ["../2/graph.bin", "/etc/hostname", ".", "a\0b"])
    def test_a_file_outside_the_bundle(self, bundle: Path, file: str) -> None:
        with (bundle / MANIFEST_FILE).open("a") as manifest:
            manifest.write(f"{'0' * 64}  {file}\n")
        with pytest.raises(BundleError, match=r"^Bundle mobilenet-v2/1: "):
            read_bundle(bundle)

    def test_a_link_out_of_the_bundle(self, bundle: Path, tmp_path: Path) -> None:
        shutil.move(bundle / "graph.bin", tmp_path / "graph.bin")
        (bundle / "graph.bin").symlink_to(tmp_path / "graph.bin")
        with pytest.raises(BundleError, match=r"graph\.bin lies outside the bundle"):
            read_bundle(bundle)

    def test_a_link_to_itself(self, bundle: Path) -> None:
        (bundle / "graph.bin").unlink()
        (bundle / "graph.bin").symlink_to("graph.bin")
        with pytest.raises(BundleError, match=r"graph\.bin cannot be read"):
            read_bundle(bundle)


class TestListing:
    def test_versions_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        for version in (10, 2, 1, 9):
            (tmp_path / "b" / str(version)).mkdir(parents=True)
        (tmp_path / "a" / "3").mkdir(parents=True)
        (tmp_path / "empty").mkdir()
        (tmp_path / ".hidden" / "1").mkdir(parents=True)
        (tmp_path / "file").write_text("x")
        (tmp_path / "a" / "draft").mkdir()
        assert installed_versions(tmp_path) == {"a": [3], "b": [1, 2, 9, 10]}

    def test_no_folder(self, tmp_path: Path) -> None:
        assert installed_versions(tmp_path / "missing") == {}


def publish_in_process(root: Path, body: str, before: str = "") -> list[str]:
    """Give the command of a process that publishes `other/1`; `body` writes its files."""
    program = f"""
import sys, time
from pathlib import Path
from brainscan.bundle import Card, PublishError, publish_bundle
{before}
def write_files(folder, card):
    (folder / "graph.xml").write_text("<net/>")
    (folder / "graph.bin").write_bytes(b"")
{"".join(f"    {line}{chr(10)}" for line in body.splitlines())}
card = Card.from_json(Path(sys.argv[2]).read_text())
try:
    print(publish_bundle(Path(sys.argv[1]), card, write_files), flush=True)
except PublishError as error:
    sys.exit(str(error))
"""
    card = root.with_name("card.json")
    return [sys.executable, "-c", program, str(root), str(card)]


@pytest.fixture
def root(bundle: Path, make_card: MakeCard) -> Path:
    """A folder with one bundle, `mobilenet-v2/1`, and beside it a card to publish again."""
    root = bundle.parents[1]
    root.with_name("card.json").write_text(make_card().to_json())
    return root


def assert_the_old_one_serves(root: Path) -> None:
    """Check that `mobilenet-v2/1` alone is installed and whole, and that publishing goes on."""
    assert installed_versions(root) == {"mobilenet-v2": [1]}
    card = read_bundle(root / "mobilenet-v2" / "1")
    assert publish_bundle(root, card, write_files).name == "2"
    assert read_bundle(root / "mobilenet-v2" / "2").version == 2
    assert not list(root.glob(".staging-*"))


class TestPublishing:
    def test_versions_are_numbered(self, tmp_path: Path, make_card: MakeCard) -> None:
        for expected in (1, 2, 3):
            folder = publish_bundle(tmp_path / "new" / "root", make_card(), write_files)
            assert folder == tmp_path / "new" / "root" / "mobilenet-v2" / str(expected)
            assert read_bundle(folder).version == expected
            assert (folder / "graph.xml").read_text() == f"<net>{expected}</net>"
        assert publish_bundle(tmp_path / "new" / "root", make_card("b"), write_files).name == "1"

    def test_files_that_are_not_good_enough(self, root: Path, make_card: MakeCard) -> None:
        def refuse(folder: Path, card: Card) -> None:
            write_files(folder, card)
            raise PublishError("The graph differs from the model.")

        with pytest.raises(PublishError, match="The graph differs"):
            publish_bundle(root, make_card(), refuse)
        assert_the_old_one_serves(root)

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path, make_card: MakeCard) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(PublishError, match=r"could not be published into .*file"):
            publish_bundle(tmp_path / "file" / "models", make_card(), write_files)

    def test_a_disk_that_takes_no_more(self, root: Path) -> None:
        """Every process can make the system refuse it more than so many bytes in a file."""
        limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
        body = '(folder / "graph.bin").write_bytes(bytes(100_000))'
        command = publish_in_process(root, body, limit)
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "mobilenet-v2 could not be published into" in done.stderr
        assert "The installed versions are unchanged; make room" in done.stderr
        assert_the_old_one_serves(root)

    def test_a_copy_that_fails_is_told_without_passing_paths(
        self, root: Path, tmp_path: Path, make_card: MakeCard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(source: str, target: str) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source, None, target)

        (tmp_path / "made").mkdir()
        for name in ("one", "two"):
            (tmp_path / "made" / name).touch()

        def copy(folder: Path, card: Card) -> None:
            shutil.copytree(tmp_path / "made", folder, copy_function=fail, dirs_exist_ok=True)

        with pytest.raises(PublishError) as raised:
            publish_bundle(root, make_card(), copy)
        assert f"into {root}: [Errno 28] No space left on device. The inst" in str(raised.value)
        assert_the_old_one_serves(root)

    def test_killed_while_publishing(self, root: Path) -> None:
        body = 'print("writing", flush=True)\ntime.sleep(60)'
        with subprocess.Popen(
            publish_in_process(root, body), cwd=PROJECT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            assert list(root.glob(".staging-*/graph.xml"))
            process.send_signal(signal.SIGKILL)
        assert list(root.glob(".staging-*/graph.xml"))  # what it left behind
        assert_the_old_one_serves(root)

    def test_several_processes_at_once(self, root: Path) -> None:
        body = "time.sleep(0.1)"
        processes = [
            subprocess.Popen(publish_in_process(root, body), cwd=PROJECT, stdout=subprocess.PIPE)
            for _ in range(3)
        ]
        outputs = [process.communicate()[0].decode().strip() for process in processes]
        assert sorted(Path(output).name for output in outputs) == ["2", "3", "4"]
        for output in outputs:
            read_bundle(Path(output))


class TestVersions:
    @pytest.fixture
    def root(self, tmp_path: Path, make_card: MakeCard) -> Path:
        for _ in range(3):
            publish_bundle(tmp_path, make_card(), write_files)
        return tmp_path

    @pytest.mark.parametrize(
        ("pinned", "expected"), [(None, [3, 2, 1]), (3, [3, 2, 1]), (2, [2, 1]), (4, [4, 3, 2, 1])]
    )
    def test_candidates(self, root: Path, pinned: int | None, expected: list[int]) -> None:
        found = survey_bundles(root)["mobilenet-v2"]
        assert replace(found, pinned=pinned).candidates == expected

    def test_a_choice_is_written_and_taken_back(self, root: Path) -> None:
        assert pinned_version(root, "mobilenet-v2") is None
        pin_version(root, "mobilenet-v2", 2)
        assert pinned_version(root, "mobilenet-v2") == 2
        assert survey_bundles(root)["mobilenet-v2"].pinned == 2
        for _ in range(2):
            pin_version(root, "mobilenet-v2", None)
            assert pinned_version(root, "mobilenet-v2") is None

    @pytest.mark.parametrize("text", [b"", b"newest", b"-1", b"\xff", b"1.5", b"1" * 5000])
    def test_a_choice_that_is_none(self, root: Path, text: bytes) -> None:
        (root / "mobilenet-v2" / "active").write_bytes(text)
        with pytest.raises(BundleError, match="mobilenet-v2/active"):
            pinned_version(root, "mobilenet-v2")
        found = survey_bundles(root)["mobilenet-v2"]
        assert (found.pinned, found.candidates) == (None, [3, 2, 1])
        assert "mobilenet-v2/active" in found.fault

    def test_a_pipe_in_the_place_of_a_choice(self, root: Path) -> None:
        os.mkfifo(root / "mobilenet-v2" / "active")
        assert "mobilenet-v2/active" in survey_bundles(root)["mobilenet-v2"].fault

    @pytest.mark.parametrize("change", [pin_version, remove_version])
    def test_what_is_not_installed(self, root: Path, change: Callable[..., None]) -> None:
        with pytest.raises(BundleError, match=r"no version 9\. Installed: 1, 2, 3"):
            change(root, "mobilenet-v2", 9)
        with pytest.raises(BundleError, match=r"No model named 'vgg' .* Installed: mobilenet-v2"):
            change(root, "vgg", 1)

    def test_removing(self, root: Path) -> None:
        pin_version(root, "mobilenet-v2", 1)
        remove_version(root, "mobilenet-v2", 2)
        assert installed_versions(root) == {"mobilenet-v2": [1, 3]}
        assert pinned_version(root, "mobilenet-v2") == 1
        remove_version(root, "mobilenet-v2", 1)
        assert pinned_version(root, "mobilenet-v2") is None
        remove_version(root, "mobilenet-v2", 3)
        assert installed_versions(root) == {}

    def test_no_number_is_given_twice(self, root: Path, make_card: MakeCard) -> None:
        for version in (3, 2, 1):
            remove_version(root, "mobilenet-v2", version)
        folder = publish_bundle(root, make_card(), write_files)
        assert folder.name == "4"

    def test_what_is_removed_meanwhile_is_not_chosen(self, root: Path) -> None:
        with ThreadPoolExecutor(2) as pool, lock(root / LOCK_FILE):
            removal = pool.submit(remove_version, root, "mobilenet-v2", 2)
            choice = pool.submit(pin_version, root, "mobilenet-v2", 2)
            time.sleep(0.2)  # both wait for the lock
            shutil.rmtree(root / "mobilenet-v2" / "2")  # as another process with the lock does
        for change in (removal, choice):
            with pytest.raises(BundleError, match="no version 2"):
                change.result()
        assert pinned_version(root, "mobilenet-v2") is None

    def test_killed_while_removing(self, root: Path, make_card: MakeCard) -> None:
        program = """
import os, shutil, signal, sys
from pathlib import Path
from brainscan.bundle import remove_version
def delete_a_file_and_die(folder, *_, **__):
    next(Path(folder).rglob("graph.bin")).unlink()
    os.kill(os.getpid(), signal.SIGKILL)
shutil.rmtree = delete_a_file_and_die
remove_version(Path(sys.argv[1]), "mobilenet-v2", 3)
"""
        killed = subprocess.run(
            [sys.executable, "-c", program, str(root)], cwd=PROJECT, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        assert installed_versions(root) == {"mobilenet-v2": [1, 2]}
        assert list(root.glob(".staging-*"))
        publish_bundle(root, make_card(), write_files)
        assert not list(root.glob(".staging-*"))

    def test_a_survey_notices_every_change(self, root: Path, make_card: MakeCard) -> None:
        seen = [survey_bundles(root)]

        def look() -> None:
            now = survey_bundles(root)
            assert now not in seen
            seen.append(now)

        assert survey_bundles(root) == seen[0]
        pin_version(root, "mobilenet-v2", 1)
        look()
        publish_bundle(root, make_card(), write_files)
        look()
        (root / "mobilenet-v2" / "4" / "report" / "README.md").write_text("changed")
        look()
        remove_version(root, "mobilenet-v2", 4)
        look_again = survey_bundles(root)
        assert look_again["mobilenet-v2"].stamps == seen[1]["mobilenet-v2"].stamps
