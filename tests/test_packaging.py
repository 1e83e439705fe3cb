"""The files around the code: requirements, Makefile, gunicorn's settings, Dockerfile."""

import configparser
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gunicorn.config import KNOWN_SETTINGS

from deploy.verify_serve_image import copy_stage, read_stage
from tumorapp.cli.pacs import dicomweb_commands
from tumorapp.feature import find_features

PROJECT = Path(__file__).parents[1]
COMPILED = (
    "requirements-serve",
    "requirements",
    "requirements-gpu",
    "requirements-ray",
    "requirements-dev",
)


def pinned_versions(name: str) -> set[str]:
    text = (PROJECT / f"{name}.txt").read_text()
    return set(re.findall(r"^[\w.-]+==\S+(?: ; [^\\]+)?", text, flags=re.MULTILINE))


def names(pins: set[str]) -> set[str]:
    return {pin.partition("==")[0] for pin in pins}


def make(*arguments: str, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    # What an outer `make test PORT=…` was told is not for this one.
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd)}
    command = ["make", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


class TestRequirements:
    @pytest.mark.parametrize("name", COMPILED)
    def test_every_package_has_hashes_and_no_address(self, name: str) -> None:
        text = (PROJECT / f"{name}.txt").read_text()
        blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
        assert len(blocks) == len(pinned_versions(name))
        assert all("--hash=sha256:" in block for block in blocks)
        assert "://" not in text

    @pytest.mark.parametrize("name", COMPILED)
    def test_the_compiled_file_holds_what_its_source_asks_for(self, name: str) -> None:
        source = (PROJECT / f"{name}.in").read_text()
        wanted = set(re.findall(r"^[a-z][\w.-]*", source, flags=re.MULTILINE))
        assert wanted <= names(pinned_versions(name))

    def test_one_package_has_one_version_everywhere(self) -> None:
        # Not the conditions: a tool may need a package on more platforms than serving does.
        serve, everything, gpu, ray, dev = (
            {pin.partition(" ;")[0].strip() for pin in pinned_versions(name)} for name in COMPILED
        )
        assert serve < everything < gpu
        assert everything < ray < dev

    def test_serving_needs_no_training_framework(self) -> None:
        assert not names(pinned_versions("requirements-serve")) & {
            *("tensorflow", "keras", "torch", "jax", "scikit-learn", "matplotlib"),
        }


class TestMakefile:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        shutil.copy(PROJECT / "Makefile", tmp_path)
        (tmp_path / "requirements-serve.txt").touch()
        return tmp_path

    def python_that_says(self, folder: Path, script: str) -> str:
        program = folder / "other-python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return f"PYTHON={program}"

    def test_make_alone_lists_every_command(self) -> None:
        makefile = (PROJECT / "Makefile").read_text()
        phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
        assert phony is not None
        listed = re.findall(r"^  ([a-z-]+) ", make().stdout, flags=re.MULTILINE)
        assert set(listed) == set(phony[1].split())

    def test_run_serves_the_address_that_was_chosen(self, folder: Path) -> None:
        assert "HOST='127.0.0.1' PORT='8000'" in make("-n", "run", cwd=folder).stdout
        chosen = make("-n", "run", "HOST=0.0.0.0", "PORT=9000", cwd=folder)
        assert "HOST='0.0.0.0' PORT='9000'" in chosen.stdout

    def test_dev_says_how_much_it_downloads_and_what_to_do_next(self, folder: Path) -> None:
        (folder / "requirements-dev.txt").touch()
        told = make("-n", "dev", cwd=folder).stdout
        assert "It downloads about 3.3 GB" in told
        assert "Next: . .venv/dev/bin/activate, then flask --help" in told
        assert "GB" not in make("-n", "run", cwd=folder).stdout

    def test_the_host_of_the_environment_is_not_taken(self, folder: Path) -> None:
        command = ["env", "HOST=workstation", "make", "-n", "run"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert "HOST='127.0.0.1'" in result.stdout

    @pytest.mark.parametrize("version", ["2.7", "3.10", "3.14"])
    def test_another_python_is_refused_by_its_version(self, folder: Path, version: str) -> None:
        result = make("run", self.python_that_says(folder, f"echo {version}"), cwd=folder)
        assert result.returncode != 0
        assert f"other-python' is: {version}." in result.stderr
        assert "make run PYTHON=python3.12" in result.stderr

    def test_an_absent_python_is_named(self, folder: Path) -> None:
        result = make("run", "PYTHON=no-such-python", cwd=folder)
        assert result.returncode != 0
        assert "'no-such-python' is: no Python that runs." in result.stderr

    def test_a_python_without_venv_names_the_package(self, folder: Path) -> None:
        python = self.python_that_says(
            folder, 'case "$2" in *print*) echo 3.11 ;; *) exit 1 ;; esac'
        )
        result = make("run", python, cwd=folder)
        assert result.returncode != 0
        assert "apt-get install python3.11-venv" in result.stderr

    def test_a_lost_python_or_a_failed_installation_is_made_good_and_then_reused(
        self, folder: Path
    ) -> None:
        stamp, python = folder / ".venv/serve/installed", f"PYTHON={sys.executable}"
        program = stamp.parent / "bin/python"
        program.parent.mkdir(parents=True)
        program.symlink_to("/no/such/python")
        stamp.touch()
        requirements = folder / "requirements-serve.txt"
        requirements.write_text(f"./absent-1.0-py3-none-any.whl --hash=sha256:{'0' * 64}\n")
        assert make(".venv/serve/installed", python, cwd=folder).returncode != 0
        assert not stamp.exists()
        requirements.write_text("")
        assert make(".venv/serve/installed", python, cwd=folder).returncode == 0
        assert subprocess.run([program, "-c", ""], check=False).returncode == 0
        written = stamp.stat().st_mtime_ns
        assert make(".venv/serve/installed", "PYTHON=not-asked-for", cwd=folder).returncode == 0
        assert stamp.stat().st_mtime_ns == written


class TestGunicornSettings:
    def read(self) -> dict[str, object]:
        settings = runpy.run_path(str(PROJECT / "gunicorn.conf.py"))
        return {
            name: settings[name]
            for name in {known.name for known in KNOWN_SETTINGS} & set(settings)
        }

    def test_the_environment_chooses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        chosen = {"HOST": "0.0.0.0", "PORT": "9000", "WEB_CONCURRENCY": "3", "THREADS": "7"}
        for name, value in chosen.items():
            monkeypatch.setenv(name, value)
        settings = self.read()
        assert (settings["bind"], settings["workers"], settings["threads"]) == (
            "0.0.0.0:9000",
            3,
            7,
        )

    def test_the_defaults(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HOST", "PORT", "WEB_CONCURRENCY", "THREADS"):
            monkeypatch.delenv(name, raising=False)
        settings = self.read()
        assert (settings["bind"], settings["workers"], settings["threads"]) == (
            "127.0.0.1:8000",
            min(os.cpu_count() or 1, 4),
            min((os.cpu_count() or 1) + 2, 16),
        )
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        settings = self.read()
        assert (settings["workers"], settings["threads"]) == (4, 16)

    def test_a_limit_that_each_worker_would_count_has_one_worker(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
        monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
        monkeypatch.setenv("TUMORAPP_RATE_LIMIT", "60/minute")
        assert self.read()["workers"] == 1
        monkeypatch.setenv("TUMORAPP_REDIS", "redis://127.0.0.1")
        assert self.read()["workers"] == 2

    def test_every_name_is_one_of_gunicorns(self) -> None:
        lines = (PROJECT / "gunicorn.conf.py").read_text().splitlines()
        assigned = {
            found[1] for line in lines if (found := re.match(r"(?:def )?([a-z]\w*)(?: =|\()", line))
        }
        assert assigned == set(self.read())


class TestGitIgnore:
    @pytest.mark.parametrize(
        ("path", "ignored"),
        [
            ("instance/models/binary-cnn/1/card.json", False),
            ("instance/models/binary-cnn/1/report/roc.png", False),
            ("instance/models/.writing-1/card.json", True),
            ("instance/models/binary-cnn/.writing-1/card.json", True),
            ("instance/runs/latest/history.csv", True),
            ("instance/cache/scans.npy", True),
            ("instance/data/sartaj/scan.jpg", True),
            (".venv/serve/installed", True),
            (".env", True),
            ("tumorapp/__init__.py", False),
            ("training/data/split.py", False),
            ("training/models/cnn.py", False),
        ],
    )
    def test_only_what_is_published_is_committed(
        self, tmp_path: Path, path: str, ignored: bool
    ) -> None:
        subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
        shutil.copy(PROJECT / ".gitignore", tmp_path)
        status = subprocess.run(["git", "check-ignore", "-q", path], cwd=tmp_path, check=False)
        assert status.returncode == (0 if ignored else 1)


class TestContainers:
    @pytest.mark.parametrize("target", ["serve", "train"])
    def test_what_the_dockerfile_copies_is_a_whole_application(
        self, target: str, tmp_path: Path
    ) -> None:
        copy_stage(target, tmp_path)
        for folder in ("brainscan", "tumorapp"):
            assert not list((tmp_path / folder).rglob("__pycache__"))
        done = subprocess.run(
            [sys.executable, "-c", "import wsgi; print(wsgi.app.name)"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "TUMORAPP_MODELS_DIR": str(tmp_path / "none")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "tumorapp\n", done.stderr

    def test_the_image_serves_as_a_numbered_user_and_is_asked_after_its_health(self) -> None:
        stage = read_stage("serve")
        assert re.search(r"^USER [1-9]\d*", stage, flags=re.MULTILINE)
        assert "/readyz" in stage[stage.index("HEALTHCHECK") :]

    @pytest.mark.parametrize(
        "files",
        [
            ["compose.yaml"],
            ["compose.yaml", "deploy/compose.proxy.yaml"],
            ["deploy/orthanc/compose.yaml"],
        ],
    )
    def test_compose_accepts_its_files(
        self, files: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ORTHANC_PASSWORD", "secret")
        compose = ["docker", "compose"]
        if (
            not shutil.which("docker")
            or subprocess.run(
                ["docker", "compose", "version"], capture_output=True, check=False
            ).returncode
        ):
            pytest.skip("docker compose is not installed: apt-get install docker-compose-plugin")
        arguments = [argument for file in files for argument in ("-f", file)]
        command = [*compose, *arguments, "config", "--format", "json"]
        services = json.loads(subprocess.check_output(command, cwd=PROJECT))["services"]
        if "serve" in services:
            assert ("ports" in services["serve"]) == ("proxy" not in services)

    def test_the_worker_of_orthanc_is_locked_down_and_its_command_exists(self) -> None:
        compose = yaml.safe_load((PROJECT / "deploy" / "orthanc" / "compose.yaml").read_text())
        worker = compose["services"]["worker"]
        assert read_stage(worker["build"]["target"])
        assert (worker["cap_drop"], worker["read_only"]) == (["ALL"], True)
        program, group, command, *options = worker["entrypoint"]
        assert (program, group) == ("flask", "dicomweb")
        options += ["--url", "http://orthanc:8042/dicom-web"]  # of its environment
        assert dicomweb_commands.commands[command].make_context(command, options)

    def test_compose_builds_the_stages_and_locks_the_service_down(self) -> None:
        services = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
        for name, service in services.items():
            assert read_stage(service["build"]["target"])
            assert service["cap_drop"] == ["ALL"], name
        assert services["serve"]["read_only"] is True
        assert services["serve"]["mem_limit"]
        assert services["serve"]["ports"][0].startswith("${TUMORAPP_HOST:-127.0.0.1}:")
        assert "./instance/models:/app/instance/models:ro" in services["serve"]["volumes"]
        assert services["train"]["profiles"] == ["train"]

    def test_compose_passes_settings_on(self) -> None:
        services = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
        settings = {setting.variable for one in find_features() for setting in one.settings}
        mounted = {"MODELS_DIR", "MODELS_CACHE", "STUDY_DIR", "JOBS_DIR", "KEYS_FILE"}
        left_out = {f"TUMORAPP_{name}" for name in mounted | {"ENGINE"}}
        assert settings - set(services["serve"]["environment"]) == left_out


class TestSystemd:
    UNIT = PROJECT / "deploy" / "tumorapp.service"

    def test_systemd_accepts_the_unit(self, tmp_path: Path) -> None:
        if not shutil.which("systemd-analyze"):
            pytest.skip("systemd-analyze is not installed: apt-get install systemd")
        program = tmp_path / ".venv" / "serve" / "bin" / "python"
        program.parent.mkdir(parents=True)
        program.symlink_to(sys.executable)
        unit = tmp_path / "tumorapp.service"
        unit.write_text(self.UNIT.read_text().replace("/opt/tumorapp", str(tmp_path)))
        command = ["systemd-analyze", "verify", unit]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.slow
    def test_its_command_tells_systemd_that_it_is_ready(self, tmp_path: Path) -> None:
        unit = configparser.RawConfigParser(strict=False)
        unit.optionxform = str  # type: ignore[assignment]  # names have capitals
        unit.read(self.UNIT)
        assert unit["Service"]["Type"] == "notify"
        _, *arguments = unit["Service"]["ExecStart"].split()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(tmp_path / "notify"))
            systemd.settimeout(60)
            own = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
            folders = {f"TUMORAPP_{name}_DIR": str(tmp_path / name) for name in ("JOBS", "MODELS")}
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                own["PORT"] = str(free.getsockname()[1])
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=PROJECT, env={**os.environ, **own, **folders}
            )
            try:
                assert b"READY=1" in systemd.recv(1000)
            finally:
                process.terminate()
                assert process.wait(30) == 0
