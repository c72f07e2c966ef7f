"""What is told of the disk that the file is on."""

from pathlib import Path

import pytest

from proxy.store.volume import doubt

MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:5 / /dev rw - devtmpfs devtmpfs rw
24 23 0:23 / /memory rw shared:3 master:1 - tmpfs tmpfs rw,size=64k
25 22 254:0 /lib/kubelet/pods/1f/volumes/kubernetes.io~empty-dir/deferred /kept rw - ext4 /dev/vda rw
26 22 0:31 /lib/kubelet/pods/1f/volumes/kubernetes.io~csi/pv/mount /volume rw - xfs /dev/sdb rw
27 22 0:32 / /shared rw - nfs4 10.0.0.1:/export rw
28 22 0:33 / /bucket rw - fuse.s3fs s3fs rw
29 22 0:34 / /layer rw - overlay overlay rw
30 22 0:35 / /with\040space\134 rw - tmpfs tmpfs rw
31 22 0:36 / /twice rw - ext4 /dev/sdc rw
32 31 0:37 / /twice rw - ramfs ramfs rw
33 32 0:38 / /twice/below rw - btrfs /dev/sdd rw
half a line
34 22 0:39 / /cut rw -
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    told = tmp_path / "mountinfo"
    told.write_text(MOUNTS)
    return told


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/srv/deferred.db", None),
        ("/memory/deferred.db", "in memory (tmpfs)"),
        ("/memory/not/there/deferred.db", "in memory (tmpfs)"),
        ("/memory2/deferred.db", None),
        ("/kept/deferred.db", "in an emptyDir"),
        ("/volume/deferred.db", None),
        ("/shared/deferred.db", "file system of others (nfs4)"),
        ("/bucket/deferred.db", "file system of others (fuse.s3fs)"),
        ("/layer/deferred.db", "layer of a container (overlay)"),
        ("/with space\\/deferred.db", "in memory (tmpfs)"),
        ("/twice/deferred.db", "in memory (ramfs)"),
        ("/twice/below/deferred.db", None),
        ("/cut/deferred.db", None),
    ],
)
def test_a_disk_that_outlives_less_than_is_promised_is_told(
    mounts: Path, path: str, told: str | None
) -> None:
    found = doubt(Path(path), mounts)
    assert (found is None) if told is None else (found is not None and told in found)


def test_a_link_leads_to_the_disk_that_it_is_on(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "kept").symlink_to("memory")
    told = tmp_path / "mountinfo"
    told.write_text(f"1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / {tmp_path}/memory rw - tmpfs x rw\n")
    assert doubt(tmp_path / "deferred.db", told) is None
    found = doubt(tmp_path / "kept" / "deferred.db", told)
    assert found is not None
    assert "tmpfs" in found


def test_a_system_that_tells_no_mounts_leaves_no_doubt(tmp_path: Path) -> None:
    assert doubt(Path("/memory/x"), tmp_path / "none") is None
    (tmp_path / "empty").touch()
    assert doubt(Path("/memory/x"), tmp_path / "empty") is None


def test_this_machine_is_read() -> None:
    # Every Linux has this one.
    assert "tmpfs" in str(doubt(Path("/dev/shm/deferred.db")))  # noqa: S108 -- nothing is written
