"""What is in the image, and what a runtime reads of it."""

import shutil
import tarfile
from os import umask
from pathlib import Path
from stat import S_IMODE

import pytest
from image.buildah import Buildah, Image
from support.process import ROOT

import proxy

MAX_BYTES = 120_000_000
EPOCH = 315532800
COMPILERS = {"as", "c++", "cc", "clang", "cpp", "g++", "gcc", "go", "ld", "make", "rustc"}


@pytest.fixture(scope="module")
def content(buildah: Buildah, image: Image) -> list[tarfile.TarInfo]:
    return buildah.content(image)


def test_what_a_runtime_reads(image: Image) -> None:
    assert image.config["User"] == "65532:65532"
    assert image.config["Entrypoint"] == ["/venv/bin/breaker-proxy"]
    assert image.config["Cmd"] == ["run"]
    assert image.config["StopSignal"] == "SIGTERM"
    assert set(image.config["ExposedPorts"]) == {"3128/tcp", "3129/tcp"}
    assert image.environment["BREAKER_PROXY_LISTEN_ADMIN"] == "0.0.0.0:3129"
    assert image.environment["PATH"].startswith("/venv/bin:/usr/local/bin:")
    assert not [name for name in image.environment if name.startswith(("PIP_", "SOURCE_DATE"))]


def test_its_health_is_asked_for_as_often_as_a_pods(image: Image) -> None:
    check = image.config["Healthcheck"]
    assert check["Test"][0] == "CMD", "no shell"
    seconds = {name: check[name] / 1e9 for name in ("Interval", "Timeout", "StartPeriod")}
    assert seconds == {"Interval": 10, "Timeout": 3, "StartPeriod": 10}
    assert check["Retries"] == 6


def test_labels(image: Image) -> None:
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in image.config["Labels"].items()
    }
    assert labels.pop("description")
    # What Buildah adds by itself.
    labels.pop("io.buildah.version", None)
    assert labels == {
        "title": "breaker-proxy",
        "version": proxy.__version__,
        "licenses": "Apache-2.0",
        "base.name": "localhost/python:slim",
    }


def test_we_add_one_folder_of_less_than_120_mb(content: list[tarfile.TarInfo]) -> None:
    assert {entry.name.partition("/")[0] for entry in content} == {"venv"}
    # As a file system counts them: whole blocks.
    assert sum(-(-entry.size // 4096) * 4096 for entry in content) < MAX_BYTES


def test_nobody_but_root_can_write_it_and_nothing_gives_rights(content: list[tarfile.TarInfo]) -> None:
    assert {(entry.uid, entry.gid) for entry in content} == {(0, 0)}
    assert {oct(S_IMODE(entry.mode)) for entry in content if entry.isfile()} == {"0o644", "0o755"}
    assert {oct(S_IMODE(entry.mode)) for entry in content if entry.isdir()} == {"0o755"}
    assert [entry.name for entry in content if not (entry.isreg() or entry.isdir() or entry.issym())] == []


def test_no_installer_no_sources_no_tests_of_ours(content: list[tarfile.TarInfo]) -> None:
    names = {entry.name for entry in content}
    packages = {name.split("/")[4] for name in names if name.count("/") == 4 and "/site-packages/" in name}
    assert {"proxy", "aiohttp", "cryptography", "rich", "uvloop"} <= packages
    assert packages.isdisjoint({"pip", "setuptools", "wheel", "hatchling", "tests"})
    assert [name for name in names if name.endswith((".c", ".h", ".pyx"))] == []
    assert [name for name in names if name.endswith(".pyc") and "/bytecode/" not in name] == []


def test_the_package_is_whole(root: Path) -> None:
    """Also what is no Python, as the live page."""
    (installed,) = (root / "venv/lib").glob("python3.*/site-packages/proxy")
    assert files_below(installed) == files_below(ROOT / "proxy")


def files_below(folder: Path) -> set[str]:
    """All files but bytecode, by their paths relative to it."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {path for path in found if "__pycache__" not in path}


def test_no_compiler(root: Path) -> None:
    folders = [root / "venv/bin", *(root / "usr").glob("*bin"), root / "usr/local/bin"]
    commands = {path.name for folder in folders for path in folder.iterdir()}
    assert {"breaker-proxy", "python"} <= commands
    assert commands & COMPILERS == set()


def test_bytecode_is_used_without_a_look_at_its_source(root: Path) -> None:
    compiled = list((root / "venv/bytecode/venv").rglob("proxy/**/*.pyc"))
    assert len(compiled) == len(list((ROOT / "proxy").rglob("*.py")))
    # PEP 552: four bytes of magic, then 0 for by time, 1 for by hash, 3 for by hash and checked.
    assert {path.read_bytes()[4:8] for path in compiled} == {bytes([1, 0, 0, 0])}


def test_another_checkout_makes_the_same_layer_byte_by_byte(
    buildah: Buildah, image: Image, content: list[tarfile.TarInfo], tmp_path: Path
) -> None:
    assert {entry.mtime for entry in content} == {EPOCH}
    before = umask(0o077)
    try:
        for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(ROOT / name, tmp_path / name)
        for name in ("proxy", "deploy/image"):
            shutil.copytree(ROOT / name, tmp_path / name, copy_function=shutil.copyfile)
    finally:
        umask(before)
    assert buildah.build("localhost/breaker-proxy:second", tmp_path).layers == image.layers
