"""The image, really built, once for all tests. That needs root, as do the containers."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from image.buildah import Buildah, Image
from image.container import OUTSIDE, Container, Start
from system.namespaces import network


@pytest.fixture(scope="session")
def buildah() -> Iterator[Buildah]:
    assert os.geteuid() == 0, (
        "run these as root: nobody else can make a base image and containers without an engine"
    )
    # Not in memory, as /tmp may be: it gets to a gigabyte or two.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="breaker-proxy-image-") as folder:
        yield Buildah(Path(folder))


@pytest.fixture(scope="session")
def image(buildah: Buildah) -> Image:
    return buildah.build("localhost/breaker-proxy:first")


@pytest.fixture(scope="session")
def root(buildah: Buildah, image: Image) -> Path:
    return buildah.root(image)


@pytest.fixture
def start(image: Image, root: Path) -> Iterator[Start]:
    """Makes containers in a network of their own, in which this test is as well."""

    def made(*arguments: str, **options: Any) -> Container:
        return Container(image, root, *arguments, **options)

    with network(OUTSIDE):
        yield made
