"""The proof of the serve image: it follows a Dockerfile faithfully, and refuses a broken one."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import verify_serve_image
from deploy.dockerfile import Step, StepError, read_stage
from deploy.image import Image

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    project, folder = tmp_path / "project", tmp_path / "image"
    (project / "static" / "__pycache__").mkdir(parents=True)
    (project / "static" / "page.css").write_text("body {}")
    (project / "static" / ".secret").write_text("hidden")
    (project / "static" / "__pycache__" / "a.pyc").write_text("compiled")
    (project / "notes.txt").write_text("not for the image")
    (project / ".dockerignore").write_text("# allowed:\n*\n!static\n**/__pycache__\n**/.*\n")
    folder.mkdir()
    return Image(project, folder)


class TestFollowingADockerfile:
    def test_copy_takes_what_dockerignore_lets_through(self, image: Image) -> None:
        image.follow(Step("WORKDIR", "/app", 1))
        image.follow(Step("COPY", "--chown=1:1 static static", 2))
        image.follow(Step("COPY", "static/page.css /srv/", 3))
        copied = {path.relative_to(image.folder) for path in image.folder.rglob("*.*")}
        assert copied == {Path("app/static/page.css"), Path("srv/page.css")}

    def test_environment_paths_lie_in_the_image(self, image: Image) -> None:
        image.follow(Step("ENV", 'HOME=/tmp NOTE="two words"', 1))
        image.follow(Step("WORKDIR", "$HOME/inner", 2))
        assert image.process_environment()["HOME"] == str(image.folder / "tmp")
        assert image.environment["NOTE"] == "two words"
        assert image.workdir == image.folder / "tmp" / "inner"

    @pytest.mark.parametrize(
        ("instruction", "value", "message"),
        [
            ("COPY", "notes.txt ./", "in .dockerignore"),
            ("COPY", "absent ./", "missing"),
            ("COPY", "static notes.txt here", "ends in '/'"),
            ("COPY", "--from=builder static static", "--from"),
            ("ADD", "static static", "ADD is not followed here"),
            ("FROM", "alpine:3", "Python's own images"),
            ("RUN", "rm -rf /srv/app", "would reach this machine"),
            ("RUN", "apt-get install -y curl", "would reach this machine"),
            ("RUN", "echo broken && exit 3", "status 3:\nbroken"),
        ],
    )
    def test_a_step_that_cannot_be_done_says_why(
        self, image: Image, instruction: str, value: str, message: str
    ) -> None:
        with pytest.raises(StepError, match=re.escape(message)):
            image.follow(Step(instruction, value, 1))

    def test_a_stage_starts_with_the_steps_it_builds_on(self, tmp_path: Path) -> None:
        dockerfile = tmp_path / "Dockerfile"
        dockerfile.write_text(
            "FROM python:3.12-slim AS base\nENV A=1\nFROM base AS other\nRUN false\n"
            "# comment\nFROM base AS serve\nRUN one && \\\n    two\n"
        )
        steps = [str(step) for step in read_stage(dockerfile, "serve")]
        assert steps == ["FROM python:3.12-slim", "ENV A=1", "RUN one && two"]
        with pytest.raises(StepError, match="its stages are: base, other, serve"):
            read_stage(dockerfile, "absent")


SERVER = """
import http.server, json, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = json.dumps({"predictions": [{"label": "glioma", "probabilities": {"glioma": 1.0}}]})
        if self.path == "/":
            body = '<script src="/static/page.js"></script>'
        self.send_response(404 if self.path == "/absent" else 200)
        self.end_headers()
        self.wfile.write(body.encode())
    do_GET = do_POST = answer
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
DOCKERFILE = """FROM python:3.12-slim AS serve
WORKDIR /app
COPY server.py ./
USER 10001
HEALTHCHECK CMD ["python", "-c", "import os, urllib.request as r; \
r.urlopen('http://127.0.0.1:' + os.environ['PORT'])"]
ENTRYPOINT ["python", "server.py"]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Image:
    project = tmp_path_factory.mktemp("project")
    (project / "Dockerfile").write_text(DOCKERFILE)
    (project / "server.py").write_text(SERVER)
    return verify_serve_image.build(project, "serve", tmp_path_factory.mktemp("built") / "image")


class TestProvingAnImage:
    def prove(self, image: Image, tmp_path: Path, server: str = SERVER) -> None:
        (image.workdir / "server.py").write_text(server)
        verify_serve_image.prove(image, tmp_path / "log")

    def test_an_image_that_serves_is_proven(
        self, built: Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.prove(built, tmp_path)
        assert "{'glioma': 1.0}" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("good", "bad", "message"),
        [
            ("200", "503", "HEALTHCHECK did not pass"),
            ("do_GET = do_POST = answer", "do_GET = answer", "/api/predict answered 501"),
            ('"label"', '"name"', "another form"),
            ('== "/absent"', '== "/static/page.js"', "/static/page.js answered 404"),
            ("import http", "import absent, http", "No module named 'absent'"),
            ("sys.exit(0)", "sys.exit(7)", "status 7"),
            ("body = ", "open('cache', 'w').close(); body = ", "wrote outside /tmp"),
        ],
    )
    def test_one_that_does_not_is_refused(
        self,
        built: Image,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        good: str,
        bad: str,
        message: str,
    ) -> None:
        monkeypatch.setattr(verify_serve_image, "SECONDS_TO_HEALTH", 3)
        with pytest.raises(StepError, match=re.escape(message)):
            self.prove(built, tmp_path, SERVER.replace(good, bad))

    def test_a_training_framework_in_it_is_refused(self, built: Image, tmp_path: Path) -> None:
        package = built.workdir / "tensorflow.py"
        package.touch()
        with pytest.raises(StepError, match="must not be in the image: tensorflow"):
            self.prove(built, tmp_path)
        package.unlink()

    def test_root_is_refused(self, built: Image, tmp_path: Path) -> None:
        as_root = replace(built, user="root")
        with pytest.raises(StepError, match="USER must be a number other than 0"):
            self.prove(as_root, tmp_path)

    def test_a_broken_dockerfile_is_named_by_its_line(self, tmp_path: Path) -> None:
        (tmp_path / "Dockerfile").write_text(DOCKERFILE)
        command = [sys.executable, "-m", "deploy.verify_serve_image", "--project", str(tmp_path)]
        result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert "FAILED: Dockerfile, line 3: COPY server.py ./" in result.stderr
