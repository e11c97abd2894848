"""The image: built from the Dockerfile by an engine, looked into, and run by runc as a cluster would.

KOFAGENT_IMAGE=1 asks for it: minutes, and downloads. The engine is docker, where its daemon answers, else buildah or podman;
KOFAGENT_IMAGE_ENGINE gives another command ("buildah --storage-driver vfs"), KOFAGENT_IMAGE_PYTHON another base image.
Seen built, with these tests green: Docker 20.10 with BuildKit and without, buildah 1.28 (isolation chroot); amd64, on a base image of
Debian 13 and CPython 3.13 with the layout of python:3.13-slim. Not by an engine: arm64, where docker/rootfs.sh was seen to
work under emulation, all but the compiling of bytecode, with the lock's wheels.

Where there is no engine, or KOFAGENT_IMAGE is the path of a Python, the same steps run on this machine: the locked dependencies in a
clean environment, docker/rootfs.sh, and the agent in a chroot. Then the base image, layers and the HEALTHCHECK are not tested.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.images import read_archive
from tests.helm.chart import CHART, CHECKOUT
from tests.support.servers import wait_until

ROOTFS = str(CHECKOUT / "docker" / "rootfs.sh")
SOURCES = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "requirements.lock",
    "kofagent",
    "pipelines",
    "docker",
    "Dockerfile",
    ".dockerignore",
)
BUILD = {"hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers"}
"""What the lock has for building only."""
LIMIT = 120_000_000
PIP = ("-q", "--disable-pip-version-check", "--no-cache-dir")


def locked() -> dict[str, str]:
    """Name and version of everything in the lock."""
    return dict(re.findall(r"(?m)^([a-z0-9-]+)==([^ ;]+)", (CHECKOUT / "requirements.lock").read_text()))


def test_the_lock_has_all_dependencies_within_their_bounds() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(r for extra in ("aws", "auth") for r in project["optional-dependencies"][extra])]
    pinned = locked()
    for requirement in map(Requirement, wanted):
        name = requirement.name.lower().replace("_", "-")
        assert name in pinned, f"{name} is not in requirements.lock: its head says how to make it"
        assert requirement.specifier.contains(pinned[name]), f"{name} {pinned[name]} is outside of {requirement.specifier}"


def test_what_others_made_is_named_by_its_digest() -> None:
    text = (CHECKOUT / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.M))
    bases = [base for base in re.findall(r"^FROM (\S+)", text, re.M) if base != "scratch" and base not in stages]
    bases = [re.sub(r"^\$\{(\w+)\}$", lambda m: re.findall(rf"^ARG {m[1]}=(\S+)$", text, re.M)[0], base) for base in bases]
    assert bases and all(re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", base) for base in bases)


def test_the_dockerfile_does_what_is_tested_here() -> None:
    text = (CHECKOUT / "Dockerfile").read_text()
    for step in (
        "--require-hashes",
        "requirements.lock",
        "docker/rootfs.sh",
        "USER 65532:65532",
        "HEALTHCHECK",
        'ENTRYPOINT ["kofagent"]',
    ):
        assert step in text
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", text)
    allowed = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for path in " ".join(copied).split():
        assert path.split("/")[0] in allowed, f"{path} is left out by .dockerignore"
        assert (CHECKOUT / path).exists()
    version = re.search(r'__version__ = "(.+)"', (CHECKOUT / "kofagent" / "__init__.py").read_text())
    assert version is not None
    assert f"appVersion: {version[1]}\n" in (CHART / "Chart.yaml").read_text()


def sources(folder: Path) -> Path:
    """A copy of what the image is made of, which nobody edits while it is built."""
    folder.mkdir()
    for name in SOURCES:
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(CHECKOUT / name, folder / name)
    return folder


def engine() -> list[str]:
    """The command of a container engine that can build here; empty: none."""
    asked = shlex.split(os.environ.get("KOFAGENT_IMAGE_ENGINE", ""))
    if asked:
        return asked
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        return ["docker"]
    return next(([name] for name in ("buildah", "podman") if shutil.which(name)), [])


def build(command: Sequence[str], source: Path, archive: Path) -> Path:
    """Builds the Dockerfile with nothing cached and saves the image as a docker-archive."""
    name, tag = Path(command[0]).name, f"localhost/kofagent-test:{os.getpid()}"
    base = os.environ.get("KOFAGENT_IMAGE_PYTHON")
    arguments = ["--network=host", "--no-cache", *(["--build-arg", f"PYTHON={base}"] if base else []), "-t", tag, str(source)]
    subprocess.run([*command, "build", *([] if name == "docker" else ["--format=docker"]), *arguments], check=True)
    try:
        save = {
            "docker": ["save", "-o", str(archive), tag],
            "podman": ["save", "--format=docker-archive", "-o", str(archive), tag],
            "buildah": ["push", "-q", tag, f"docker-archive:{archive}:{tag}"],
        }[name]
        subprocess.run([*command, *save], check=True)
    finally:
        subprocess.run([*command, "rmi", tag], check=False, stdout=subprocess.DEVNULL)
    return archive


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not os.environ.get("KOFAGENT_IMAGE"):
        pytest.skip("takes minutes and downloads the dependencies: set KOFAGENT_IMAGE=1, or to the path of another Python")
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ldd") is None:
        pytest.skip("needs Linux and root, for chroot")
    folder = tmp_path_factory.mktemp("image")
    yield sources(folder / "source")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def archive(source: Path) -> Path | None:
    """The image by an engine; None: there is no engine, or another Python is asked for."""
    command = engine() if os.environ["KOFAGENT_IMAGE"] == "1" else []
    return build(command, source, source.parent / "image.tar") if command else None


@pytest.fixture
def built(archive: Path | None) -> Path:
    """The image by an engine."""
    if archive is None:
        pytest.skip("no container engine (docker, buildah, podman): base image, layers and HEALTHCHECK not tested")
    return archive


@pytest.fixture(scope="module")
def root(source: Path, archive: Path | None) -> Path:
    """The image's root file system."""
    made = source.parent / "root"
    made.mkdir()
    if archive is not None:
        for layer in read_archive(archive)[1]:
            unpack = subprocess.Popen(["tar", "-xpf", "-", "-C", made], stdin=subprocess.PIPE)
            subprocess.run(["tar", "-xOf", archive, layer], stdout=unpack.stdin, check=True)
            unpack.communicate()
            assert unpack.returncode == 0
        return made
    wanted = os.environ["KOFAGENT_IMAGE"]
    venv = source.parent / "venv"
    subprocess.run([sys.executable if wanted == "1" else wanted, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    lock = str(source / "requirements.lock")
    subprocess.run([python, "-m", "pip", "install", *PIP, "--require-hashes", "--only-binary=:all:", "-r", lock], check=True)
    subprocess.run([python, "-m", "pip", "install", *PIP, "--no-deps", "--no-build-isolation", str(source)], check=True)
    subprocess.run([ROOTFS, str(venv), str(made)], check=True)
    return made


def run(root: Path, *command: str, user: int = 65532) -> subprocess.CompletedProcess[str]:
    """Runs a command in the root file system as another user, with the image's environment."""
    environment = {"PATH": "/usr/local/bin", "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}

    def enter() -> None:
        os.chroot(root)
        os.chdir("/")
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)

    return subprocess.run(command, preexec_fn=enter, env=environment, capture_output=True, text=True, check=False)


def python_of(root: Path) -> str:
    """The Python that the agent is run by."""
    return (root / "usr/local/bin/kofagent").read_text().splitlines()[0].removeprefix("#!").split()[0]


def open_for_others(root: Path) -> None:
    """This machine's Python may be below a directory of root's alone; the image's is in /usr/local."""
    for folder in Path(python_of(root)).parents:
        (root / folder.relative_to("/")).chmod(0o755)


def test_the_agent_runs_in_it(root: Path) -> None:
    open_for_others(root)
    done = run(root, "/usr/local/bin/kofagent", "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("kofagent ")
    schema = run(root, "/usr/local/bin/kofagent", "components", "--schema")  # imports every component
    assert schema.returncode == 0, schema.stderr
    checked = run(
        root,
        "/usr/local/bin/kofagent",
        "validate",
        "--without-secrets",
        "--config=yaml:"
        "{receivers: {otlp: {protocols: {grpc: null, http: null}}}, exporters: {otlphttp: {endpoint: 'https://a.test'}, "
        "awscloudwatchlogs: {region: us-east-2, log_group_name: a, log_stream_name: b}}, "
        "service: {pipelines: {logs: {receivers: [otlp], exporters: [otlphttp, awscloudwatchlogs]}}}}",
    )
    assert checked.returncode == 0, checked.stderr
    (root / "tmp" / "values.yaml").write_text("kof: {basic_auth: false}\n")
    for role in ("node", "k8scluster"):
        rendered = run(root, "/usr/local/bin/kofagent", "validate", "--values=/tmp/values.yaml", f"--role={role}")
        assert rendered.returncode == 0, rendered.stderr


def test_everything_that_is_loaded_late_is_there(root: Path) -> None:
    open_for_others(root)
    code = """
import sys; sys.path.append("/opt/kofagent/lib")
import asyncio, bcrypt, botocore.session, botocore.auth, ctypes, decimal, grpc.aio, psutil, re2, snappy, sqlite3, ssl, zlib, zoneinfo, zstandard
from isal import igzip
assert len(ssl.create_default_context().get_ca_certs()) > 50
assert zoneinfo.ZoneInfo("Europe/Berlin")
session = botocore.session.get_session()
session.set_credentials("a", "b")
for name in ("sts", "sso", "sso-oidc", "logs"):
    session.create_client(name, region_name="us-east-2")
import os; assert os.getuid() == 65532
try:
    open("/opt/kofagent/x", "w"); raise SystemExit("writable")
except PermissionError:
    pass
"""
    done = run(root, python_of(root), "-I", "-c", code)
    assert done.returncode == 0, done.stderr


def test_its_size(root: Path) -> None:
    def size(folder: Path) -> int:
        return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())

    parts = {
        "dependencies and agent": size(root / "opt"),
        "Python": size((root / python_of(root).lstrip("/")).parents[1]),
        "all": size(root),
    }
    print({name: f"{count / 1e6:.1f} MB" for name, count in parts.items()})
    assert parts["all"] < LIMIT, parts


def test_there_is_nothing_to_break_out_with(root: Path) -> None:
    names = {path.name for path in root.rglob("*") if path.is_file() or path.is_symlink()}
    assert not names & {"sh", "bash", "dash", "busybox", "pip", "pip3", "apt", "apt-get", "dpkg", "curl", "wget", "perl", "openssl"}
    assert {p.name for p in (root / "usr/local/bin").iterdir()} <= {"kofagent", "python3", Path(python_of(root)).name}
    assert not list(root.glob("usr/local/lib/python3*/site-packages/*")) and not list(root.glob("usr/local/lib/python3*/ensurepip"))
    assert not [p for p in root.rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_mode & 0o6000]


def test_it_is_compiled(root: Path) -> None:
    missing = [
        p for p in (root / "opt" / "kofagent" / "lib").rglob("*.py") if not list((p.parent / "__pycache__").glob(p.stem + ".*.pyc"))
    ]
    assert not missing, missing[:5]
    compiled = next((root / "opt" / "kofagent" / "lib" / "kofagent" / "__pycache__").glob("__init__*.pyc")).read_bytes()
    assert compiled[4] == 1  # unchecked hash: right whatever time the file has


def test_what_it_is_made_of_can_be_listed(root: Path) -> None:
    """By scanners for vulnerabilities and licences: Python's distributions, and Debian's packages of the libraries."""
    installed = {re.sub(r"[-_.]+", "-", p.name.split("-")[0]).lower(): p for p in (root / "opt/kofagent/lib").glob("*.dist-info")}
    assert set(installed) == {"kofagent"} | (set(locked()) - BUILD)
    for name, version in locked().items():
        if name in installed:
            assert f"\nVersion: {version}\n" in (installed[name] / "METADATA").read_text()
    assert (installed["kofagent"] / "licenses" / "LICENSE").exists()
    assert list(root.glob(f"{python_of(root).split('/bin/')[0].lstrip('/')}/lib/python3*/LICENSE.txt"))
    packages = {p.name for p in (root / "var/lib/dpkg/status.d").iterdir()}
    assert packages >= {"libc6", "libgcc-s1", "libstdc++6", "zlib1g", "ca-certificates", "tzdata"}
    for package in packages:
        assert (root / "usr/share/doc" / package / "copyright").stat().st_size > 0
        assert f"Package: {package}\n" in (root / "var/lib/dpkg/status.d" / package).read_text()
    assert "ID=debian" in (root / "etc/os-release").read_text()


def test_its_configuration(built: Path) -> None:
    config = read_archive(built)[0]["config"]
    assert config["User"] == "65532:65532" and config["Entrypoint"] == ["kofagent"] and config["Cmd"] == ["--help"]
    assert set(config["ExposedPorts"]) == {"4317/tcp", "4318/tcp", "8888/tcp", "9090/tcp"}
    assert (
        config["Labels"]["org.opencontainers.image.title"] == "kofagent"
        and config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    )
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "python3"] and config["Healthcheck"]["Timeout"] == 5_000_000_000
    assert not set(config.get("Volumes") or {})


def test_the_same_sources_give_the_same_layers(source: Path, built: Path) -> None:
    again = build(engine(), source, source.parent / "again.tar")
    assert read_archive(again)[0]["rootfs"]["diff_ids"] == read_archive(built)[0]["rootfs"]["diff_ids"]
    again.unlink()


def bundle(folder: Path, root: Path, config: dict[str, Any], arguments: Sequence[str]) -> Path:
    """An OCI bundle that runs the image with no right at all: its own user, no capability, nothing writable, a network of its own,
    128 MiB."""
    folder.mkdir()
    uid, gid = map(int, config["User"].split(":"))
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        {"destination": "/otel.yaml", "type": "bind", "source": str(folder / "otel.yaml"), "options": ["bind", "ro"]},
    ]
    (folder / "config.json").write_text(
        json.dumps(
            {
                "ociVersion": "1.0.2",
                "mounts": mounts,
                "root": {"path": str(root), "readonly": True},
                "process": {
                    "user": {"uid": uid, "gid": gid},
                    "args": [*arguments],
                    "env": config["Env"],
                    "cwd": config["WorkingDir"] or "/",
                    "capabilities": {},
                    "noNewPrivileges": True,
                },
                "linux": {
                    "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
                    "resources": {"memory": {"limit": 128 << 20}},
                },
            }
        )
    )
    (folder / "otel.yaml").write_text(OTEL)
    return folder


OTEL = """
receivers: {otlp: {protocols: {http: {endpoint: '127.0.0.1:4318'}}}}
exporters: {debug: {verbosity: detailed}}
service: {pipelines: {logs: {receivers: [otlp], exporters: [debug]}}}
"""
SEND = """
import json, urllib.request as r
body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "a line from inside"}}]}]}]}
request = r.Request("http://127.0.0.1:4318/v1/logs", json.dumps(body).encode(), {"Content-Type": "application/json"})
assert r.urlopen(request, timeout=10).status == 200
status = dict(line.split(":\t", 1) for line in open("/proc/1/status") if ":\t" in line)
assert status["Uid"].split() == ["65532"] * 4, status["Uid"]
assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0} and status["NoNewPrivs"].strip() == "1"
for path in ("/x", "/tmp/x", "/var/lib/otelcol/file_storage/x"):
    try:
        open(path, "w")
    except OSError:
        continue
    raise SystemExit(path + " is writable")
"""


@contextmanager
def container(
    folder: Path, said: Path
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[..., subprocess.CompletedProcess[str]]]]:
    """A container of this bundle that prints to a file, and a function that runs a command in it."""
    name = f"kofagent-test-{os.getpid()}"

    def inside(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["runc", "exec", name, *command], capture_output=True, text=True, check=False)

    with said.open("wb") as out:
        process = subprocess.Popen(["runc", "run", "-b", str(folder), name], stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process, inside
    finally:
        subprocess.run(["runc", "delete", "--force", name], check=False, capture_output=True)
        process.wait(30)


def test_it_runs_with_no_right_and_its_health_is_seen(built: Path, root: Path, tmp_path: Path) -> None:
    if shutil.which("runc") is None:
        pytest.skip("runc is not installed: the image was built, and not run")
    config = read_archive(built)[0]["config"]
    health = config["Healthcheck"]["Test"][1:]
    version = bundle(tmp_path / "version", root, config, [*config["Entrypoint"], "--version"])
    with container(version, tmp_path / "version.txt") as (process, _):
        assert process.wait(60) == 0, (tmp_path / "version.txt").read_text()
    assert (tmp_path / "version.txt").read_text().startswith("kofagent ")
    alone = bundle(tmp_path / "alone", root, config, health)
    with container(alone, tmp_path / "alone.txt") as (process, _):
        assert process.wait(60) == 1, "the health check of an agent that is not up must fail"
    assert "Connection refused" in (tmp_path / "alone.txt").read_text()

    agent = bundle(tmp_path / "agent", root, config, [*config["Entrypoint"], "run", "--config", "/otel.yaml"])
    said = tmp_path / "agent.txt"
    with container(agent, said) as (process, inside):
        wait_until(lambda: process.poll() is not None or "everything is ready" in said.read_text(), 60)
        checked = inside(*health)
        assert checked.returncode == 0, checked.stderr + said.read_text()
        sent = inside("python3", "-I", "-c", SEND)
        assert sent.returncode == 0, sent.stderr + said.read_text()
        wait_until(lambda: "a line from inside" in said.read_text(), 30)
        assert inside("sh").returncode != 0
        process.terminate()  # runc hands it on
        assert process.wait(60) == 0, said.read_text()


@pytest.mark.parametrize("program", ["ldd", "ldconfig", "strip", "compileall", "uninstall"])
def test_a_step_that_fails_fails_the_build(program: str, source: Path, tmp_path: Path) -> None:
    """On an environment without the dependencies, which is enough for every step."""
    wanted = os.environ["KOFAGENT_IMAGE"]
    venv = tmp_path / "venv"
    subprocess.run([sys.executable if wanted == "1" else wanted, "-m", "venv", str(venv)], check=True)
    site = next(venv.glob("lib/python3*/site-packages"))
    (site / "kofagent").mkdir()
    (site / "kofagent" / "__init__.py").write_text("syntax error" if program == "compileall" else "")
    (site / "botocore" / "data").mkdir(parents=True)
    environment = dict(os.environ)
    if program == "uninstall":
        (site / "pip" / "__main__.py").write_text("raise SystemExit('no pip')")
    elif program != "compileall":
        fake = tmp_path / "bin" / program
        fake.parent.mkdir()
        fake.write_text(f"#!/bin/sh\necho {program} is broken >&2\nexit 1\n")
        fake.chmod(0o755)
        environment["PATH"] = f"{fake.parent}:{environment['PATH']}"
    (tmp_path / "root").mkdir()
    done = subprocess.run([ROOTFS, str(venv), str(tmp_path / "root")], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    said = {"compileall": "SyntaxError", "uninstall": "no pip"}.get(program, f"{program} is broken")
    assert said in done.stdout + done.stderr, done.stderr
