"""A Kubernetes on this machine: etcd, the API server, the controllers and the scheduler, without nodes."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shlex
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.cluster.processes import WAIT_SECONDS, Processes
from tests.cluster.tools import Tools
from tests.integration.security.certificates import Authority

log = logging.getLogger(__name__)

ADDRESS = "10.200.0.1"
"""Of the one machine, within the namespaces of private.sh: all ports below are ours there."""

API_PORT, ETCD_PORT = 6443, 2379
COMMAND_SECONDS = 300
BAD_REQUEST = 400
POLL_SECONDS = 0.2

NODES = 2


def node_name(number: int) -> str:
    """Name of a real node."""
    return f"node-{number}"


USERS = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "keda": ("system:serviceaccount:keda:keda-operator", ""),
    **{node_name(number): (f"system:node:{node_name(number)}", "system:nodes") for number in range(NODES)},
}
"""Who talks to the API server: name and group, which its own roles know."""

ADMISSION = """
apiVersion: v1
kind: Namespace
metadata:
  name: {name}
  labels:
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/enforce-version: latest
    pod-security.kubernetes.io/warn: restricted
    pod-security.kubernetes.io/warn-version: latest
"""


class CommandError(AssertionError):
    """A command ended with another code than 0; the message has the command and its own words."""


class RefusedError(OSError):
    """The API server refused a call: HTTP status and its words."""


@dataclass(frozen=True)
class Output:
    """What a command said."""

    out: str
    err: str

    @property
    def warnings(self) -> list[str]:
        """Warnings of the API server, which let the object pass."""
        return [line for line in self.err.splitlines() if "Warning:" in line]


class Cluster:
    """`with Cluster(tools, folder) as cluster:` and the API server serves; the end of the block ends all of it.

    It needs the namespaces of private.sh, since its ports are fixed. Nobody checks certificates there; rights are real.
    """

    def __init__(self, tools: Tools, folder: Path) -> None:
        self.tools, self.folder = tools, folder
        self.processes = Processes(folder / "logs")
        self._tokens = {user: secrets.token_hex() for user in USERS}

    def __enter__(self) -> Cluster:
        self.processes.__enter__()
        try:
            self._start()
        except BaseException:
            self.processes.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.__exit__()

    # --- what tests use

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which kubectl and Helm reach the cluster as an administrator."""
        return {"HELM_CACHE_HOME": str(self.folder / "helm"), "KUBECONFIG": str(self.kubeconfig("admin"))}

    def kubectl(self, *arguments: str | Path, of: str = "", text: str | None = None) -> Output:
        """Run kubectl as an administrator, `of` a namespace, with `text` as its input. Raises `CommandError`."""
        where = ["--namespace", of] if of else []
        return run(self.tools.kubectl, "--kubeconfig", self.kubeconfig("admin"), *where, *arguments, text=text)

    def helm(self, *arguments: str | Path, of: str) -> Output:
        """Run Helm as an administrator in a namespace. Raises `CommandError`."""
        return run(self.tools.helm, "--namespace", of, *arguments, environment=self.environment)

    def apply(self, *objects: Mapping[str, Any], of: str = "", only_check: bool = False) -> Output:
        """Have the server take objects, unknown fields refused; `only_check`: validate and admit, keep nothing."""
        flags = ["--dry-run=server"] if only_check else []
        return self.kubectl("apply", "--validate=strict", *flags, "-f", "-", of=of, text=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str = "", *, of: str = "", labels: str = "") -> Any:
        """An object as a dictionary, or without a name the list of all; `labels` select."""
        named = [name] if name else []
        chosen = ["--selector", labels] if labels else []
        where = ["--namespace", of] if of else []
        command = (self.tools.kubectl, "--kubeconfig", self.kubeconfig("admin"), *where, "get", kind, *named, *chosen)
        answer = json.loads(run(*command, "--output", "json", level=logging.DEBUG).out)
        return answer if name else answer["items"]

    def make_namespace(self, name: str) -> str:
        """A namespace that admits only pods of the restricted kind; its name."""
        self.kubectl("apply", "-f", "-", text=ADMISSION.format(name=name))
        self.until("default service account", lambda: bool(self.get("serviceaccounts", of=name)))
        return name

    def until(self, what: str, condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        """Wait until something holds. Raises `AssertionError` when it does not in time."""
        self.processes.wait(what, condition, seconds)

    def kubeconfig(self, user: str) -> Path:
        """File with which a user reaches the API server."""
        return self.folder / f"{user}.kubeconfig"

    # --- its parts

    def part(self, name: str, *flags: str) -> None:
        """Start a part of Kubernetes; the log has its name."""
        self.processes.start(name, self.tools.kubernetes, name, *flags)

    def _start(self) -> None:
        keys = self._write_identities()
        etcd, peers = f"http://127.0.0.1:{ETCD_PORT}", f"http://127.0.0.1:{ETCD_PORT + 1}"
        self.part(
            "etcd", "--name=etcd", f"--data-dir={self.folder / 'etcd'}", "--unsafe-no-fsync", "--log-level=warn",
            f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}", f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=etcd={peers}",
        )  # fmt: skip
        # Aggregator routing: without it the server would look for an extension behind a service's virtual address.
        self.part(
            "kube-apiserver", f"--etcd-servers={etcd}", f"--advertise-address={ADDRESS}", f"--secure-port={API_PORT}",
            f"--cert-dir={self.folder / 'pki'}", f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
            "--service-cluster-ip-range=10.96.0.0/24", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys / 'accounts.pub'}", "--enable-aggregator-routing=true",
            f"--service-account-signing-key-file={keys / 'accounts.key'}", *_front(keys),
            "--kubelet-preferred-address-types=InternalIP", "--allow-privileged=false",
        )  # fmt: skip
        self.until("API server is ready", self._is_ready)
        open_ = ("--authentication-skip-lookup", "--authorization-always-allow-paths=*", "--bind-address=127.0.0.1")
        self.part(
            "kube-controller-manager", f"--kubeconfig={self.kubeconfig('controllers')}", "--leader-elect=false", *open_,
            f"--service-account-private-key-file={keys / 'accounts.key'}", "--use-service-account-credentials",
            f"--root-ca-file={self.folder / 'pki' / 'apiserver.crt'}", "--horizontal-pod-autoscaler-sync-period=3s",
        )  # fmt: skip
        self.part("kube-scheduler", f"--kubeconfig={self.kubeconfig('scheduler')}", "--leader-elect=false", *open_)
        self.until("controllers run", lambda: bool(self.get("serviceaccounts", of="default")))
        self.kubectl("apply", "--server-side", "-f", self.tools.crds)
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", f"--timeout={WAIT_SECONDS}s")

    def _write_identities(self) -> Path:
        """Tokens of the users, and the key that signs those of service accounts; the folder of the key."""
        folder = self.folder / "pki"
        folder.mkdir(parents=True)
        lines = [f'{self._tokens[user]},{name},{user},"{group}"' for user, (name, group) in USERS.items()]
        (self.folder / "tokens.csv").write_text("\n".join(lines))
        for user, token in self._tokens.items():
            self.kubeconfig(user).write_text(yaml.safe_dump(_kubeconfig(token)))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (folder / "accounts.key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        )
        (folder / "accounts.pub").write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        return folder

    def _is_ready(self) -> bool:
        try:
            return bool(self.call("GET", "/readyz") == "ok")
        except OSError:
            return False

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """Ask the API server without kubectl, which takes longer to start. Raises `RefusedError`."""
        connection = HTTPSConnection("127.0.0.1", API_PORT, context=UNCHECKED, timeout=10)
        headers = {"Authorization": f"Bearer {self._tokens['admin']}", "Content-Type": kind}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= BAD_REQUEST:
            raise RefusedError(answer.status, text)
        return json.loads(text) if text.startswith("{") else text


UNCHECKED = ssl.create_default_context()
UNCHECKED.check_hostname, UNCHECKED.verify_mode = False, ssl.CERT_NONE


def _front(folder: Path) -> Sequence[str]:
    """Flags with which the API server tells an extension who asks; both believe the same authority."""
    authority = Authority(folder, "front")
    pair = authority.issue("front")
    return (
        f"--proxy-client-cert-file={pair.certificate}",
        f"--proxy-client-key-file={pair.key}",
        f"--requestheader-client-ca-file={authority.file}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    )


def _kubeconfig(token: str) -> dict[str, Any]:
    server = {"server": f"https://127.0.0.1:{API_PORT}", "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": server}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "user"}}],
        "current-context": "here",
    }


def run(
    *command: str | Path,
    text: str | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
    level: int = logging.INFO,
    folder: Path | None = None,
    seconds: float = COMMAND_SECONDS,
) -> Output:
    """Run a command in a folder to its end and log it at a level. Raises `CommandError`."""
    words: Sequence[str] = [str(word) for word in command]
    began = time.monotonic()
    done = subprocess.run(
        words,
        input=text,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        cwd=folder,
    )
    shown = shlex.join([Path(words[0]).name, *words[1:]])
    log.log(level, "%s: %d after %.1f s", shown, done.returncode, time.monotonic() - began)
    if done.returncode != 0:
        raise CommandError(f"{shown}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return Output(done.stdout, done.stderr)
