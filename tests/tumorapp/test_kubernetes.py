"""deploy/kubernetes: what it makes is valid, and what it relies on is true of the service."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import requests
import yaml
from click import Group

from benchmarks import capacity
from deploy.verify_serve_image import copy_stage, prove, read_stage
from tests.tumorapp.servers import find_port
from tumorapp import create_app
from tumorapp.config import read_settings
from tumorapp.feature import find_features

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "deploy" / "kubernetes"
MANIFESTS = ("base", "overlays/development", "overlays/production")
VERSIONS = ("1.30", "1.37")  # the oldest that the README names, and the newest
PRIVATE = {"/metrics", "/healthz", "/readyz"}  # for Prometheus and the probes

# What a container runtime does: the arguments are the folders that stay writable, -- and a command.
ISOLATE = """
while [ "$1" != -- ]; do mount --bind "$1" "$1"; shift; done; shift
for part in / "$(findmnt -no TARGET --target .)"; do mount -o remount,bind,ro "$part"; done
touch written 2>/dev/null && exit 1
exec setpriv --no-new-privs --bounding-set=-all "$@"
"""

Resource = dict[str, Any]


@cache
def render(folder: str) -> list[Resource]:
    """Give the resources that `kubectl apply -k` would send to a cluster."""
    kubectl = shutil.which("kubectl")
    # Debian 12's knows no components, and does not name its kustomize.
    if not kubectl or b"Kustomize" not in subprocess.check_output([kubectl, "version", "--client"]):
        pytest.skip("kubectl 1.24 or newer is not installed: Debian 13 has kubernetes-client")
    text = subprocess.check_output(["kubectl", "kustomize", str(FOLDER / folder)], text=True)
    return list(yaml.safe_load_all(text))


def find(folder: str, kind: str) -> Resource:
    [found] = [one for one in render(folder) if one["kind"] == kind]
    return found


def list_pods(folder: str) -> list[Resource]:
    """Give the templates of the pods of a Deployment and a CronJob."""
    pods = []
    for one in render(folder):
        if one["kind"] == "Deployment":
            pods.append(one["spec"]["template"])
        if one["kind"] == "CronJob":
            pods.append(one["spec"]["jobTemplate"]["spec"]["template"])
    return pods


def list_containers(folder: str) -> list[Resource]:
    specs = [pod["spec"] for pod in list_pods(folder)]
    return [one for spec in specs for one in spec.get("initContainers", []) + spec["containers"]]


def find_server(folder: str) -> Resource:
    [server] = find(folder, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(server, dict)
    return server


def read_environment(folder: str, container: Resource) -> dict[str, str]:
    """Give the variables of a container, with an example for what a Secret has."""
    given = find(folder, "ConfigMap")
    assert container["envFrom"][0] == {"configMapRef": {"name": given["metadata"]["name"]}}
    variables: dict[str, str] = dict(given["data"])
    for one in container.get("env", []):
        if "resourceFieldRef" in one["valueFrom"]:
            variables[one["name"]] = container["resources"]["limits"]["cpu"]
        else:
            variables[one["name"]] = "redis://redis.example:6379"
    return variables


@pytest.mark.parametrize("folder", MANIFESTS)
def test_a_cluster_accepts_them(folder: str) -> None:
    for one in render(folder):
        for version in VERSIONS:
            kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("folder", MANIFESTS)
def test_every_container_is_locked_down(folder: str) -> None:
    user, group = re.search(r"^USER (\d+):(\d+)$", read_stage("serve"), re.MULTILINE).groups()
    for pod in list_pods(folder):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": int(user),
            "runAsGroup": int(group),
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    for container in list_containers(folder):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("folder", MANIFESTS)
def test_their_variables_are_settings_with_accepted_values(
    folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = [setting for feature in find_features() for setting in feature.settings]
    for container in list_containers(folder):
        given = read_environment(folder, container)
        read_settings(settings, given, {})
        assert not caplog.messages


@pytest.mark.parametrize("folder", MANIFESTS)
def test_their_commands_exist(folder: str) -> None:
    app = create_app({"MODELS_DIR": "/none"})
    for container in list_containers(folder):
        if "command" not in container:
            continue
        program, *words = container["command"]
        assert program == "flask"
        command: Any = app.cli
        while isinstance(command, Group):
            command = command.commands[words.pop(0)]
        assert command.make_context(command.name, words)


@pytest.mark.parametrize("folder", MANIFESTS)
def test_what_selects_pods_selects_the_servers_alone(folder: str) -> None:
    deployment = find(folder, "Deployment")
    server, *others = [pod["metadata"]["labels"].items() for pod in list_pods(folder)]
    for kind in ("Deployment", "Service", "PodDisruptionBudget"):
        selector = find(folder, kind)["spec"]["selector"]
        selector = selector.get("matchLabels", selector).items()
        assert selector <= server
        assert not any(selector <= other for other in others)
    for one in render(folder):
        if one["kind"] == "NetworkPolicy":
            selector = one["spec"]["podSelector"]["matchLabels"].items()
            assert selector <= server
        if one["kind"] == "HorizontalPodAutoscaler":
            assert one["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_the_ingress_passes_on_every_route_but_the_private_ones() -> None:
    [rule] = find("base", "Ingress")["spec"]["rules"]
    [port] = find("base", "Service")["spec"]["ports"]
    exact, prefixes = set(), []
    for one in rule["http"]["paths"]:
        assert one["backend"]["service"] == {"name": "tumorapp", "port": {"name": port["name"]}}
        if one["pathType"] == "Exact":
            exact.add(one["path"])
        else:
            prefixes.append(f"{one['path']}/")
    for known in create_app({"MODELS_DIR": "/none"}).url_map.iter_rules():
        passed_on = known.rule in exact or f"{known.rule}/".startswith(tuple(prefixes))
        assert passed_on == (known.rule not in PRIVATE), known.rule


def test_the_autoscaler_asks_for_a_metric_that_the_adapter_shows() -> None:
    [pods, _] = find("base", "HorizontalPodAutoscaler")["spec"]["metrics"]
    adapter = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())
    [rule] = adapter["rules"]["custom"]
    assert rule["seriesQuery"].startswith(f"{pods['pods']['metric']['name']}{{")


def test_a_replica_has_the_workers_that_its_cores_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    server = find_server("base")
    monkeypatch.setattr(os, "cpu_count", lambda: int(server["resources"]["limits"]["cpu"]))
    for name in ("THREADS", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)
    chosen = runpy.run_path(str(PROJECT / "gunicorn.conf.py"))
    found = read_environment("base", server)
    assert found["WEB_CONCURRENCY"] == str(chosen["workers"])
    assert found["THREADS"] == str(chosen["threads"])


def test_the_capacity_is_counted_for_these_replicas() -> None:
    [_, processor] = find("base", "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert processor["resource"]["target"]["averageUtilization"] == 100 * capacity.UTILISATION
    assert find_server("base")["resources"]["limits"]["cpu"] == str(capacity.REPLICA)


def start(container: Resource, root: Path, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a container of the image, without rights; only its volumes can be written."""
    [entry] = re.findall(r"^ENTRYPOINT (.+)$", read_stage("serve"), flags=re.MULTILINE)
    program, *arguments = container.get("command") or json.loads(entry)
    module = ["-m", "flask"] if program == "flask" else []
    volumes = [root / mount["mountPath"][1:] for mount in container["volumeMounts"]]
    for volume in volumes:
        volume.mkdir(parents=True, exist_ok=True)
    isolated = ["sh", "-c", ISOLATE, "sh", *volumes, "--", sys.executable, *module, *arguments]
    return subprocess.Popen(
        ["unshare", "--mount", *isolated],
        cwd=root / "app",
        env={"PATH": os.environ["PATH"], "TMPDIR": str(root / "tmp"), **variables},
    )


@contextmanager
def run_replica(root: Path, **others: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the pod of production in a folder that stands for `/`; give its process and its URL."""
    allowed = ["unshare", "--mount", "true"]
    if not shutil.which("unshare") or subprocess.run(allowed, check=False).returncode:
        pytest.skip("unshare --mount needs Linux, and root's rights")
    (root / "app").mkdir()
    copy_stage("serve", root / "app")
    pod = find("overlays/production", "Deployment")["spec"]["template"]["spec"]
    [first], [server] = pod["initContainers"], pod["containers"]
    port = find_port()
    variables = {**read_environment("overlays/production", server), **others, "PORT": str(port)}
    assert start(first, root, variables).wait(60) == 0
    process = start(server, root, variables)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.slow
def test_a_replica_works_as_it_is_told_to(tmp_path: Path, bucket: str, redis: Any) -> None:
    push = ["models", "push", "binary-cnn", "--to", bucket]
    assert create_app().test_cli_runner().invoke(args=push).exit_code == 0
    others = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    others |= {"TUMORAPP_MODELS_DIR": bucket, "TUMORAPP_REDIS": redis.url}
    server = find_server("overlays/production")
    [port] = server["ports"]
    assert f"PORT={port['containerPort']}" in read_stage("serve")
    with run_replica(tmp_path, **others) as (process, url):
        prove(process, url)  # it predicts, shows the page and runs a job
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = server[probe]["httpGet"]
            assert asked["port"] == port["name"]
            assert requests.get(url + asked["path"], timeout=5).status_code == 200
        assert requests.get(f"{url}/readyz", timeout=5).json()["models"] == ["binary-cnn"]
        [pods, _] = find("base", "HorizontalPodAutoscaler")["spec"]["metrics"]
        shown = requests.get(f"{url}/metrics", timeout=5).text
        assert f"\n{pods['pods']['metric']['name']} " in shown
