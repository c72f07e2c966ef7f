"""A Pod's containers as processes, with what a kubelet would give them of volumes, variables and users.

Each has a root of its own that holds nothing but what an image would, made of this machine's files: the
system, Python with the packages of the tests, the product. Users, capabilities, variables, volumes, mounts
and read-only roots are those of the manifest. Not so: limits of memory and CPU, seccomp, and the image
itself. Root only.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any

from support import certificates
from support.process import PATIENCE_S, until
from system.manifests import ROOT, expanded, named

# What Kubernetes tells each container of the API server; on a real cluster the first Service.
SERVICES = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
_IMAGE = {"PATH": "/venv/bin:/usr/bin:/bin", "PYTHONPATH": "/app", "SSL_CERT_DIR": "/etc/ssl/certs"}
_ENTRYPOINT = ["python", "-m", "proxy"]
_NOGROUP = 65534


class Pod:
    """What the containers of a Pod share.

    Args:
        spec: of the Pod.
        objects: the contents of ConfigMaps and Secrets, by name.
        folder: an empty one, for its volumes.
        address: its IP address, which this network namespace has.
        hosts: names that /etc/hosts has, with their addresses (`hostAliases`).
    """

    def __init__(
        self,
        spec: dict[str, Any],
        objects: Mapping[str, Mapping[str, str]],
        folder: Path,
        address: str,
        hosts: Mapping[str, str],
    ) -> None:
        self.spec = spec
        self.address = address
        self._folder = folder
        self._hosts = {"localhost": "127.0.0.1"} | dict(hosts)
        self._roots = count()
        self._versions = count()
        self._etc = folder / "etc"
        self._make_image()
        self._group = spec.get("securityContext", {}).get("fsGroup")
        for volume in spec["volumes"]:
            path = self.volume(volume["name"])
            path.mkdir()
            path.chmod(0o777)
            if "configMap" in volume:
                self.publish(volume["name"], objects[volume["configMap"]["name"]], 0o644)
            elif "secret" in volume:
                secret = volume["secret"]
                self.publish(volume["name"], objects[secret["secretName"]], secret.get("defaultMode", 0o644))
            else:
                assert set(volume) == {"name", "emptyDir"}

    def volume(self, name: str) -> Path:
        """Where a volume is on this machine."""
        return self._folder / f"volume-{name}"

    def publish(self, name: str, contents: Mapping[str, str], mode: int = 0o644) -> None:
        """Has a ConfigMap or Secret say this from now on, by the swap of a symlink as the kubelet does it."""
        volume = self.volume(name)
        version = volume / f"..2026_11_23_{next(self._versions)}"
        version.mkdir()
        for key, value in contents.items():
            (version / key).write_text(value)
            (version / key).chmod(mode)
            if self._group is not None:
                os.chown(version / key, 0, self._group)
            if not (volume / key).is_symlink():
                (volume / key).symlink_to(f"..data/{key}")
        before = (volume / "..data").resolve()
        (volume / "..data_tmp").symlink_to(version.name)
        (volume / "..data_tmp").replace(volume / "..data")
        if before.name != "..data":
            shutil.rmtree(before)

    def command(self, container: dict[str, Any], argv: list[str]) -> list[str]:
        """What runs a command in a container: with its mounts, its user, its variables."""
        root = self._folder / f"root-{next(self._roots)}"
        root.mkdir()
        user = container["securityContext"]
        assert user["capabilities"] == {"drop": ["ALL"]}
        assert user["allowPrivilegeEscalation"] is False
        group = user.get("runAsGroup", _NOGROUP)
        groups = f"--groups={self._group}" if self._group is not None else "--clear-groups"
        lines = [
            f"mount -t tmpfs -o mode=0755 root {root}",
            f"cd {root}",
            f"mkdir -p dev proc usr venv app/proxy etc .{sys.base_prefix}",
            *(
                f"cp -P /{link} ."
                for link in ("bin", "lib", "lib64", "sbin")
                if Path(f"/{link}").is_symlink()
            ),
            *(f"mount --rbind /{name} {name}" for name in ("dev", "proc", "usr")),
            f"mount --bind {sys.base_prefix} .{sys.base_prefix}",
            f"mount --bind {sys.prefix} venv",
            f"mount --bind {ROOT / 'proxy'} app/proxy",
            f"mount --bind {self._etc} etc",
        ]
        for mount in container.get("volumeMounts", []):
            at = shlex.quote(f".{mount['mountPath']}")
            source = shlex.quote(str(self.volume(mount["name"])))
            lines += [f"mkdir -p {at}", f"mount --bind {source} {at}"]
            if mount.get("readOnly", False):
                lines.append(f"mount -o remount,bind,ro {at}")
        if user["readOnlyRootFilesystem"]:
            lines.append(f"mount -o remount,ro {root}")
        environment = [f"{name}={value}" for name, value in (_IMAGE | expanded(container, SERVICES)).items()]
        drop = "--no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all"
        run = shlex.join(["env", "-i", *environment, *argv])
        lines.append(
            f"exec chroot . setpriv --reuid={user['runAsUser']} --regid={group} {groups} {drop} {run}"
        )
        return ["unshare", "--mount", "--propagation=private", "sh", "-euc", "\n".join(lines)]

    def execute(self, container: dict[str, Any], *argv: str) -> subprocess.CompletedProcess[str]:
        """`kubectl exec`, to its end."""
        words = [*_ENTRYPOINT, *argv[1:]] if argv[0] == "breaker-proxy" else list(argv)
        return subprocess.run(
            self.command(container, words),
            env={"PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def probe(self, container: dict[str, Any], name: str) -> bool:
        """Asks once what one of its probes asks, as the kubelet does it: at the address of the Pod."""
        asked = container[name]["httpGet"]
        port = named(container["ports"], asked["port"])["containerPort"]
        connection = HTTPConnection(self.address, port, timeout=container[name].get("timeoutSeconds", 1))
        try:
            connection.request("GET", asked["path"])
            return 200 <= connection.getresponse().status < 400
        except OSError:
            return False
        finally:
            connection.close()

    @contextmanager
    def running(self, container: dict[str, Any], log: Path) -> Iterator[subprocess.Popen[str]]:
        """A container with our image, once its startup probe has succeeded; its log goes to a file."""
        with log.open("w") as out:
            process = subprocess.Popen(
                self.command(container, [*_ENTRYPOINT, *container["args"]]),
                env={"PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )
        try:

            def is_up() -> bool:
                assert process.poll() is None, log.read_text()
                return self.probe(container, "startupProbe")

            until(is_up, f"it does not start: {log.read_text()}")
            yield process
        finally:
            process.kill()
            process.wait()

    def terminate(self, process: subprocess.Popen[str], grace_s: float) -> int:
        """SIGTERM; the exit code of what has ended in time.

        Raises:
            subprocess.TimeoutExpired: it would have been killed.
        """
        process.send_signal(signal.SIGTERM)
        return process.wait(grace_s)

    def _make_image(self) -> None:
        """The /etc of the images: users, names, and as the CA of the internet that of the tests."""
        roots = self._etc / "ssl" / "certs"
        roots.mkdir(parents=True)
        shutil.copy(certificates.authority_path(), roots / "tests.pem")
        subprocess.run(["openssl", "rehash", str(roots)], check=True, capture_output=True)
        (self._etc / "hosts").write_text(
            "".join(f"{address} {name}\n" for name, address in self._hosts.items())
        )
        (self._etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        (self._etc / "nsswitch.conf").write_text("hosts: files dns\n")
