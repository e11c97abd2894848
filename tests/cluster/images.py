"""Container images without a registry and without a build tool: a docker-archive tar written from files of this machine.

pause     the sandbox of every pod (busybox sleeping)
busybox   Debian's static busybox with all its applets, for pods that crash, chat, eat memory
hostroot  an empty root whose bin, lib, lib64, sbin lead into /usr: mount the host's /usr there and its programs run
folder    a root file system, as docker/rootfs.sh makes it
program   one program of this machine with its libraries, under any name
agent     the agent with its Python and libraries from the Python that runs this, for charts that name an image
archive   an image that an engine built and saved: the agent's from the Dockerfile, as users get it
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.control_plane import program

PAUSE = "localhost/pause:1"
BUSYBOX = "localhost/busybox:1"
HOSTROOT = "localhost/hostroot:1"
AGENT = "localhost/kofagent:test"
BUILT = "KOFAGENT_CLUSTER_IMAGE"
"""Environment variable: the docker-archive of an agent that an engine built, for the tests on a cluster to run instead of `agent`."""
CHECKOUT = Path(__file__).parents[2]

_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_GROUP = b"root:x:0:\nnogroup:x:65534:\n"


class Layer:
    """One file system layer being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tar = tarfile.open(path, "w")  # noqa: SIM115  closed in `close`
        self._folders: set[str] = set()
        self._names: set[str] = set()

    def folder(self, name: str, mode: int = 0o755) -> None:
        """A folder and, before it, the folders it is in."""
        name = name.strip("/")
        if not name or name in self._folders:
            return
        self.folder(os.path.dirname(name))
        self._folders.add(name)
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, mode
        self._tar.addfile(info)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """A file with this content; the first of a name wins."""
        name = name.strip("/")
        if name in self._names:
            return
        self._names.add(name)
        self.folder(os.path.dirname(name))
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), mode
        self._tar.addfile(info, io.BytesIO(data))

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        name = name.strip("/")
        if name in self._names:
            return
        self._names.add(name)
        self.folder(os.path.dirname(name))
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
        self._tar.addfile(info)

    def copy(self, source: Path, name: str) -> None:
        """A file of this machine, readable by everybody; links are followed."""
        self.file(name, source.read_bytes(), 0o755 if os.access(source, os.X_OK) else 0o644)

    def tree(self, source: Path, name: str, *, skip: Iterable[str] = ()) -> None:
        """A folder of this machine without bytecode and without entries of these names."""
        without = {"__pycache__", *skip}
        for root, folders, files in os.walk(source):
            folders[:] = sorted(set(folders) - without)
            inside = os.path.relpath(root, source)
            for file in sorted(set(files) - without):
                path = Path(root) / file
                if path.exists():
                    self.copy(path, os.path.normpath(os.path.join(name, inside, file)))

    def close(self) -> None:
        """Ends the layer."""
        self._tar.close()


def write_archive(
    out: Path,
    tag: str,
    layer: Path,
    *,
    entrypoint: Sequence[str] = (),
    command: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    user: str = "",
    workdir: str = "/",
) -> None:
    """Packs one layer as a docker-archive that `ctr images import` takes."""
    config: dict[str, Any] = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {
            "Env": [f"{k}={v}" for k, v in {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **(env or {})}.items()],
            "Entrypoint": list(entrypoint) or None,
            "Cmd": list(command) or None,
            "User": user,
            "WorkingDir": workdir,
        },
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    }
    with tarfile.open(out, "w") as tar:
        _head(tar, tag, config, ["layer.tar"])
        tar.add(layer, "layer.tar")
    layer.unlink()


def _digest(layer: Path) -> str:
    with layer.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _head(tar: tarfile.TarFile, tag: str, config: dict[str, Any], layers: Sequence[str]) -> None:
    """The members of a docker-archive that name the image, its configuration and its layers."""
    data = json.dumps(config).encode()
    name = hashlib.sha256(data).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": list(layers)}]).encode()
    for member, content in ((name, data), ("manifest.json", manifest)):
        info = tarfile.TarInfo(member)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def read_archive(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The configuration of the first image of a docker-archive (of `docker save`, `buildah push`, `podman save`), and the names of
    its layers' members, lowest first."""
    with tarfile.open(path) as tar:

        def read(name: str) -> Any:
            file = tar.extractfile(name)
            if file is None:
                raise ValueError(f"{path} is no docker-archive: {name} is not a file")
            return json.load(file)

        manifest = read("manifest.json")[0]
        return read(manifest["Config"]), manifest["Layers"]


def of_archive(folder: Path, tag: str, path: Path) -> Path:
    """The archive of an image that an engine built and saved, under this name, with busybox in a layer on top, in the first folder of
    its PATH: the Dockerfile's has no program to look around with. Entrypoint, user and environment are the image's."""
    config, layers = read_archive(path)
    variables = dict(variable.split("=", 1) for variable in config["config"].get("Env") or [])
    top = Layer(folder / "top.tar")
    top.copy(_busybox(), variables.get("PATH", "/bin").split(":")[0] + "/busybox")
    top.close()
    config["rootfs"]["diff_ids"].append(_digest(top.path))
    config["history"] = [*config.get("history", []), {"created": "1970-01-01T00:00:00Z", "created_by": "busybox for tests"}]
    archive = folder / "archive.tar"
    names = [f"{number}.tar" for number in range(len(layers) + 1)]
    with tarfile.open(path) as source, tarfile.open(archive, "w") as tar:
        _head(tar, tag, config, names)
        for name, layer in zip(names, layers, strict=False):
            file = source.extractfile(layer)  # follows links: engines write a layer that two images have once
            info = tarfile.TarInfo(name)
            if file is None:
                raise ValueError(f"{path} is no docker-archive: {layer} is not a file")
            info.size = file.seek(0, os.SEEK_END)
            file.seek(0)
            tar.addfile(info, file)
        tar.add(top.path, names[-1])
    top.path.unlink()
    return archive


def _busybox() -> Path:
    path = Path(program("busybox"))
    if subprocess.run(["ldd", path], capture_output=True, check=False).returncode == 0:
        raise RuntimeError(f"{path} is not a static program: apt install busybox-static")
    return path


def busybox(folder: Path) -> list[Path]:
    """The archives of PAUSE and BUSYBOX."""
    out = []
    for tag, entrypoint in ((PAUSE, ["/bin/busybox", "sleep", "2147483647"]), (BUSYBOX, [])):
        layer = Layer(folder / "layer.tar")
        layer.copy(_busybox(), "bin/busybox")
        if tag == BUSYBOX:
            for applet in subprocess.run([_busybox(), "--list"], capture_output=True, text=True, check=True).stdout.split():
                if applet != "busybox":
                    layer.link(f"bin/{applet}", "busybox")
            layer.file("etc/passwd", _PASSWD)
            layer.file("etc/group", _GROUP)
            for name in ("proc", "sys", "dev", "etc", "root", "var/log", "run"):
                layer.folder(name)
            layer.folder("tmp", 0o1777)
        layer.close()
        archive = folder / f"{tag.split('/')[1].split(':')[0]}.tar"
        write_archive(archive, tag, layer.path, entrypoint=entrypoint, command=["/bin/sh"] if tag == BUSYBOX else ())
        out.append(archive)
    return out


def hostroot(folder: Path) -> Path:
    """The archive of HOSTROOT."""
    layer = Layer(folder / "layer.tar")
    for name in ("usr", "etc", "proc", "sys", "dev", "root", "var/log", "var/lib", "run", "opt", "home", "hostfs"):
        layer.folder(name)
    layer.folder("tmp", 0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        layer.link(name, f"usr/{name}")
    layer.file("etc/passwd", _PASSWD)
    layer.file("etc/group", _GROUP)
    layer.close()
    archive = folder / "hostroot.tar"
    write_archive(archive, HOSTROOT, layer.path)
    return archive


def of_program(folder: Path, tag: str, path: Path, *, entrypoint: Sequence[str] = (), user: str = "65534:65534") -> Path:
    """The archive of an image with one program of this machine (at /bin/<its name>, the default entrypoint) and the libraries it
    loads: what charts run beside the agent, as node-exporter or kube-state-metrics, under the image name they use."""
    layer = Layer(folder / "layer.tar")
    layer.copy(path, f"bin/{path.name}")
    for library in sorted(_libraries([path])):
        layer.copy(library, str(library))
    layer.file("etc/passwd", _PASSWD)
    layer.file("etc/group", _GROUP)
    for name in ("proc", "sys", "dev", "run", "host"):
        layer.folder(name)
    layer.folder("tmp", 0o1777)
    layer.close()
    archive = folder / "program.tar"
    write_archive(archive, tag, layer.path, entrypoint=entrypoint or [f"/bin/{path.name}"], user=user)
    return archive


def of_folder(
    folder: Path,
    tag: str,
    root: Path,
    *,
    entrypoint: Sequence[str] = (),
    command: Sequence[str] = (),
    user: str = "",
    env: Mapping[str, str] | None = None,
) -> Path:
    """The archive of an image with this root file system (modes and links kept, everything owned by root), as docker/rootfs.sh
    makes it: what the Dockerfile's last stage would be."""
    layer = Layer(folder / "layer.tar")
    for place, folders, files in os.walk(root):
        inside = os.path.relpath(place, root)
        for name in sorted(folders + files):
            path, target = Path(place) / name, os.path.normpath(os.path.join(inside, name))
            if path.is_symlink():
                layer.link(target, os.readlink(path))
            elif path.is_dir():
                layer.folder(target, path.stat().st_mode & 0o7777)
            elif path.is_file():
                layer.file(target, path.read_bytes(), path.stat().st_mode & 0o7777)
    layer.close()
    archive = folder / "folder.tar"
    write_archive(archive, tag, layer.path, entrypoint=entrypoint, command=command, user=user, env=env)
    return archive


def _requirements(extras: Sequence[str]) -> list[importlib.metadata.Distribution]:
    """The installed distributions the agent needs, with those they need, from pyproject.toml and their metadata."""
    import tomllib

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"].get(extra, [])
    found: dict[str, importlib.metadata.Distribution] = {}
    while wanted:
        requirement = wanted.pop()
        if "extra ==" in requirement:
            continue
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        name = re.sub(r"[-_.]+", "-", match.group(0)).lower() if match else ""
        if not name or name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if ";" in requirement:  # for another platform or Python
                continue
            raise
        wanted += found[name].requires or []
    return list(found.values())


def _libraries(programs: Iterable[Path]) -> set[Path]:
    """The shared libraries these files load, with the dynamic loader."""
    found: set[Path] = set()
    for path in programs:
        output = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        found.update(Path(match) for match in re.findall(r"(/\S+) \(0x", output))
    return found


def agent(
    folder: Path,
    tag: str = AGENT,
    *,
    extras: Sequence[str] = ("aws", "auth"),
    user: str = "10001:10001",
    entrypoint: Sequence[str] = ("kofagent",),
    command: Sequence[str] = (),
) -> Path:
    """The archive of an image with this checkout of the agent: about 5 seconds and 180 MB.

    Python's own modules, the distributions the agent needs and their shared libraries come from the Python that runs this.
    """
    layer = Layer(folder / "layer.tar")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(sys.base_prefix)
    interpreter = Path(os.path.realpath(sys.executable))
    packages = f"usr/local/lib/{version}/site-packages"
    loaded = [interpreter]
    layer.copy(interpreter, f"usr/local/bin/{version}")
    for name in ("python3", "python"):
        layer.link(f"usr/local/bin/{name}", version)
    standard = Path(sysconfig.get_path("stdlib"))
    layer.tree(
        standard,
        f"usr/local/lib/{version}",
        skip=(
            "site-packages",
            "dist-packages",
            "test",
            "tests",
            "idlelib",
            "tkinter",
            "turtledemo",
            "ensurepip",
            "lib2to3",
            "pydoc_data",
            f"config-{sys.version_info.major}.{sys.version_info.minor}-x86_64-linux-gnu",
        ),
    )
    loaded += (standard / "lib-dynload").glob("*.so")
    for distribution in _requirements(extras):
        for file in distribution.files or []:
            path = Path(str(distribution.locate_file(file)))
            if path.is_file() and "__pycache__" not in file.parts and ".." not in file.parts:
                layer.copy(path, f"{packages}/{file}")
                if ".so" in path.suffixes:
                    loaded.append(path)
    layer.tree(CHECKOUT / "kofagent", f"{packages}/kofagent")
    layer.tree(CHECKOUT / "pipelines", f"{packages}/kofagent/pipelines")
    for library in sorted(_libraries(loaded)):
        if base in library.parents and ".so" in library.suffixes and "lib-dynload" not in library.parts:
            layer.copy(library, f"usr/local/lib/{library.name}")
        elif "site-packages" not in library.parts:
            layer.copy(library, str(library))
    layer.file(
        "usr/local/bin/kofagent",
        f"#!/usr/local/bin/{version}\nimport sys\n\nfrom kofagent.cli.main import main\n\nsys.exit(main())\n".encode(),
        0o755,
    )
    layer.copy(_busybox(), "bin/busybox")
    layer.link("bin/sh", "busybox")
    layer.file("etc/passwd", _PASSWD + b"kofagent:x:10001:10001::/nonexistent:/bin/false\n")
    layer.file("etc/group", _GROUP + b"kofagent:x:10001:\n")
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if bundle.exists():
        layer.copy(bundle, str(bundle))
        layer.link("usr/lib/ssl/cert.pem", str(bundle))  # where Debian's OpenSSL looks
    layer.tree(Path("/usr/share/zoneinfo"), "usr/share/zoneinfo", skip=("right", "posix"))
    for name in ("proc", "sys", "dev", "run", "var/lib", "var/log", "hostfs"):
        layer.folder(name)
    layer.folder("tmp", 0o1777)
    layer.close()
    archive = folder / "agent.tar"
    write_archive(
        archive,
        tag,
        layer.path,
        entrypoint=entrypoint,
        command=command,
        user=user,
        env={"LD_LIBRARY_PATH": "/usr/local/lib", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return archive
