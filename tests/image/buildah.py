"""Builds the image with Buildah, which needs no engine, and looks into it."""

import ast
import json
import os
import shutil
import ssl
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from support.process import ROOT

HERE = Path(__file__).parent
# How pip gets to its index; the rest of its settings is about the machine it runs on.
_PIP_SETTINGS = {
    "cert", "default-timeout", "extra-index-url", "index-url", "proxy", "retries", "timeout", "trusted-host",
}  # fmt: skip
_CERTIFICATES = "/etc/certificates-of-the-host.pem"
# That of the slim image of Python.
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """An image that was built.

    Attributes:
        config: what a runtime reads of it: user, command, environment and so on.
        layers: the digests of its layers, those of the base left out.
    """

    name: str
    config: dict[str, Any]
    layers: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """Its variables."""
        return dict(variable.split("=", 1) for variable in self.config["Env"])


class Buildah:
    """Buildah with a storage of its own.

    Args:
        folder: for the storage, which gets as large as all images in it, a layer with all below it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._base: Image | None = None

    def build(self, name: str, context: Path = ROOT) -> Image:
        """Builds the image of this context upon Debian's Python, with the host's way to the package index."""
        if self._base is None:
            self._base = self._build_base()
        settings = self._folder / "pip.conf"
        volumes = [f"{settings}:/etc/pip.conf:ro"]
        chosen = pip_settings()
        if bundle := certificates(chosen):
            chosen["cert"] = _CERTIFICATES
            volumes.append(f"{bundle}:{_CERTIFICATES}:ro")
        settings.write_text(
            "\n".join(["[global]", *(f"{key} = {value}" for key, value in chosen.items()), ""])
        )
        return self._build(
            name,
            f"--build-arg=PYTHON_IMAGE={self._base.name}",
            *(f"--volume={volume}" for volume in volumes),
            str(context),
            below=len(self._base.layers),
        )

    def content(self, image: Image) -> list[tarfile.TarInfo]:
        """What is in the layers of the image, those of the base left out."""
        folder = self._folder / f"pushed-{sha256(image.name.encode()).hexdigest()}"
        self._run("push", "--quiet", image.name, f"dir:{folder}")
        blobs = json.loads((folder / "manifest.json").read_text())["layers"][-len(image.layers) :]
        found: list[tarfile.TarInfo] = []
        for blob in blobs:
            with tarfile.open(folder / blob["digest"].partition(":")[2]) as layer:
                found += layer.getmembers()
        return found

    def root(self, image: Image) -> Path:
        """A folder that has all files of the image, those of the base too."""
        return Path(self._run("mount", self._run("from", image.name).strip()).strip())

    def _build_base(self) -> Image:
        context = self._folder / "base"
        context.mkdir()
        shutil.copyfile(base_archive(), context / "base.tar")
        (context / "Dockerfile").write_text(f"FROM scratch\nADD base.tar /\nENV PATH={_PATH}\n")
        return self._build("localhost/python:slim", str(context), below=0)

    def _build(self, name: str, *arguments: str, below: int) -> Image:
        self._run("build", "--quiet", "--isolation=chroot", "--format=docker", f"--tag={name}", *arguments)
        told = json.loads(self._run("inspect", "--type=image", name))["Docker"]
        return Image(name, told["config"], tuple(told["rootfs"]["diff_ids"][below:]))

    def _run(self, *arguments: str) -> str:
        storage = [f"--root={self._folder / 'storage'}", f"--runroot={self._folder / 'run'}"]
        done = subprocess.run(
            ["buildah", *storage, "--storage-driver=vfs", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout


def base_archive() -> Path:
    """What stands in for the slim image of Python; made once for this recipe and kept in the user's cache."""
    recipe = HERE / "base"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "breaker-proxy"
    kept = cache / f"base-{sha256(recipe.read_bytes()).hexdigest()[:16]}.tar"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = cache / f"new-{os.getpid()}.tar"
        subprocess.run([recipe, made], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        made.replace(kept)
        for other in cache.glob("base-*.tar"):
            if other != kept:
                other.unlink()
    return kept


def pip_settings() -> dict[str, str]:
    """How this machine's pip gets to its index, by the names of pip's settings."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = {}
    # The environment wins over the files.
    for line in sorted(listed.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        # A folder of this machine is none of the build's.
        words = [word for word in ast.literal_eval(value).split() if not word.startswith("file:")]
        if key in _PIP_SETTINGS and words:
            found[key] = " ".join(words)
    return found


def certificates(settings: dict[str, str]) -> str | None:
    """The file of the authorities that this machine trusts."""
    defaults = ssl.get_default_verify_paths()
    return settings.get("cert") or os.environ.get("SSL_CERT_FILE") or defaults.cafile
