"""The image's steps without a container engine: the locked dependencies in a clean environment, the same script as the Dockerfile,
and the agent run in the root file system that comes out. Not covered: the base image, layers, HEALTHCHECK by an engine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helm.chart import CHART, CHECKOUT

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


def test_the_dockerfile_does_what_is_tested_here() -> None:
    text = (CHECKOUT / "Dockerfile").read_text()
    for step in ("--require-hashes", "requirements.lock", "docker/rootfs.sh", "USER 65532:65532", "HEALTHCHECK", 'ENTRYPOINT ["kofagent"]'):
        assert step in text
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", text)
    allowed = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for path in " ".join(copied).split():
        assert path.split("/")[0] in allowed, f"{path} is left out by .dockerignore"
        assert (CHECKOUT / path).exists()
    version = re.search(r'__version__ = "(.+)"', (CHECKOUT / "kofagent" / "__init__.py").read_text())
    assert version is not None
    assert f"appVersion: {version[1]}\n" in (CHART / "Chart.yaml").read_text()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image's root file system."""
    wanted = os.environ.get("KOFAGENT_IMAGE", "")
    if not wanted:
        pytest.skip("takes minutes and downloads the dependencies: set KOFAGENT_IMAGE=1, or to the path of another Python")
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ldd") is None:
        pytest.skip("needs Linux and root, for chroot")
    folder = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable if wanted == "1" else wanted, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "kofagent", "pipelines"):
        copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy
        copy(CHECKOUT / name, source / name)
    lock = str(CHECKOUT / "requirements.lock")
    subprocess.run([python, "-m", "pip", "install", *PIP, "--require-hashes", "--only-binary=:all:", "-r", lock], check=True)
    subprocess.run([python, "-m", "pip", "install", *PIP, "--no-deps", str(source)], check=True)
    made = folder / "root"
    made.mkdir()
    subprocess.run([str(CHECKOUT / "docker" / "rootfs.sh"), str(folder / "venv"), str(made)], check=True)
    yield made
    shutil.rmtree(folder, ignore_errors=True)


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
    checked = run(root, "/usr/local/bin/kofagent", "validate", "--without-secrets", "--config=yaml:"
                  "{receivers: {otlp: {protocols: {grpc: null, http: null}}}, exporters: {otlphttp: {endpoint: 'https://a.test'}, "
                  "awscloudwatchlogs: {region: us-east-2, log_group_name: a, log_stream_name: b}}, "
                  "service: {pipelines: {logs: {receivers: [otlp], exporters: [otlphttp, awscloudwatchlogs]}}}}")
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

    parts = {"dependencies and agent": size(root / "opt"), "Python": size((root / python_of(root).lstrip("/")).parents[1]), "all": size(root)}
    print({name: f"{count / 1e6:.1f} MB" for name, count in parts.items()})
    assert parts["all"] < LIMIT, parts


def test_there_is_nothing_to_break_out_with(root: Path) -> None:
    names = {path.name for path in root.rglob("*") if path.is_file() or path.is_symlink()}
    assert not names & {"sh", "bash", "busybox", "pip", "pip3", "apt", "apt-get", "dpkg", "curl", "wget"}
    assert not [p for p in root.rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_mode & 0o6000]


def test_it_is_compiled(root: Path) -> None:
    missing = [p for p in (root / "opt" / "kofagent" / "lib").rglob("*.py") if not list((p.parent / "__pycache__").glob(p.stem + ".*.pyc"))]
    assert not missing, missing[:5]
    compiled = next((root / "opt" / "kofagent" / "lib" / "kofagent" / "__pycache__").glob("__init__*.pyc")).read_bytes()
    assert compiled[4] == 1  # unchecked hash: right whatever time the file has
