"""The files that the settings name: whichever cannot be used ends `check` and `run`, with path and reason."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from support.process import PATIENCE_S, ROOT, command, environment

from proxy import files
from proxy.control.config import ConfigError, load
from proxy.core.policies import ways_of

each_command = pytest.mark.parametrize("arguments", [("check",), ("run", "--config")], ids=["check", "run"])
# Does not find the extra, as if it were not installed.
WITHOUT_EXTRA = "import sys; sys.modules['cryptography'] = None; from proxy.cli import main; sys.exit(main())"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory of files, good and bad."""
    ours = trustme.CA().issue_cert("sidecar.test")
    ours.cert_chain_pems[0].write_to_path(str(tmp_path / "me.pem"))
    ours.private_key_pem.write_to_path(str(tmp_path / "me.key"))
    trustme.CA().issue_cert("other.test").private_key_pem.write_to_path(str(tmp_path / "other.key"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "garbage").write_bytes(b"\0\xff no certificate")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def configuration(folder: Path, **sections: Any) -> str:
    path = folder / "config.yaml"
    listen = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}
    path.write_text(yaml.safe_dump({"listen": listen} | sections))
    return str(path)


def with_tls(folder: Path, **names: str) -> str:
    tls = {key: str(folder / name) for key, name in names.items()}
    return configuration(folder, upstreams=[{"match": "a.example", "tls": tls}])


@each_command
@pytest.mark.parametrize(
    ("names", "at_fault", "reason"),
    [
        ({"ca": "missing"}, "missing", "cannot be read: No such file or directory"),
        ({"ca": "directory"}, "directory", "cannot be read: Is a directory"),
        ({"ca": "pipe"}, "pipe", "cannot be read: it is not a regular file"),
        ({"ca": "garbage"}, "garbage", "has no certificate in PEM, or a malformed one"),
        (
            {"client_cert": "me.pem", "client_key": "other.key"},
            "other.key",
            "the key does not belong to the certificate",
        ),
        ({"client_cert": "me.pem"}, "me.pem", "has no private key in PEM, or a malformed one"),
    ],
    ids=str,
)
def test_a_file_for_tls_that_cannot_be_used(
    folder: Path, arguments: tuple[str, ...], names: dict[str, str], at_fault: str, reason: str
) -> None:
    done = command(*arguments, with_tls(folder, **names))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{folder / at_fault}: upstreams.tls: {reason}\n"


@each_command
def test_a_file_that_may_not_be_read(folder: Path, arguments: tuple[str, ...]) -> None:
    if not os.geteuid():
        # Root may read all.
        (folder / "ca.pem").unlink()
        (folder / "ca.pem").symlink_to(folder / "ca.pem")
    else:
        (folder / "ca.pem").chmod(0)
    done = command(*arguments, with_tls(folder, ca="ca.pem"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"{folder / 'ca.pem'}: upstreams.tls: cannot be read: ")


@each_command
def test_a_key_without_its_certificate_is_a_fault_of_the_settings(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    path = with_tls(folder, client_key="me.key")
    done = command(*arguments, path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{path}:")
    assert "tls.client_key: the certificate of this key is missing: set tls.client_cert" in done.stderr


def test_check_takes_what_can_be_used_and_makes_nothing(folder: Path) -> None:
    tls = {"ca": "ca.pem", "client_cert": "me.pem", "client_key": "me.key"}
    upstream = {
        "match": "a.example",
        "https": "intercept",
        "tls": {key: str(folder / name) for key, name in tls.items()},
    }
    intercept = {
        "directory": str(folder / "shared"),
        "private_directory": str(folder / "private"),
        "extra_roots": [str(folder / "ca.pem")],
    }
    done = command("check", configuration(folder, upstreams=[upstream], intercept=intercept))
    assert (done.returncode, done.stderr) == (0, "")
    assert not (folder / "shared").exists()
    assert not (folder / "private").exists()


@pytest.mark.parametrize("name", ["missing", "garbage", "pipe"])
@each_command
def test_extra_roots_that_cannot_be_used(folder: Path, arguments: tuple[str, ...], name: str) -> None:
    intercept = {"ephemeral": True, "directory": str(folder / "shared"), "extra_roots": [str(folder / name)]}
    upstreams = [{"match": "a.example", "https": "intercept"}]
    done = command(*arguments, configuration(folder, intercept=intercept, upstreams=upstreams))
    assert done.returncode == 2
    assert done.stderr.startswith(f"{folder / name}: intercept")


def test_a_key_that_others_can_read_is_not_our_authority(folder: Path) -> None:
    """`check` makes nothing, and so does not open the authority."""
    private = folder / "private"
    private.mkdir()
    (private / "ca.key").write_bytes((folder / "me.key").read_bytes())
    (private / "ca.key").chmod(stat.S_IRUSR | stat.S_IROTH)
    upstreams = [{"match": "a.example", "https": "intercept"}]
    intercept = {"private_directory": str(private)}
    done = command("run", "--config", configuration(folder, intercept=intercept, upstreams=upstreams))
    assert done.returncode == 2
    assert done.stderr.startswith(f"{private / 'ca.key'}: intercept: ")


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [
        (("run", "--config"), "intercept"),
        (("check",), "intercept"),
        (("check",), "tunnel"),
        (("check",), "originate"),
    ],
    ids=str,
)
def test_without_its_extra_interception_is_refused_and_nothing_else(
    folder: Path, arguments: tuple[str, ...], mode: str
) -> None:
    path = configuration(
        folder, upstreams=[{"match": "a.example", "https": mode}], intercept={"ephemeral": True}
    )
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA, *arguments, path],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if mode == "intercept":
        assert done.returncode == 2
        assert "upstreams.https: https: intercept needs an extra: pip install" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_made_where_nothing_is_intercepted(folder: Path) -> None:
    settings = load(Path(with_tls(folder, ca="ca.pem")), {}, {})
    files.check(settings)
    assert files.leaves(settings) is None


def test_a_fault_has_the_key_of_the_setting(folder: Path) -> None:
    settings = load(Path(with_tls(folder, ca="garbage")), {}, {})
    with pytest.raises(ConfigError) as caught:
        files.upstream_tls(ways_of(settings))
    (fault,) = caught.value.faults
    assert (fault.source, fault.line, fault.key) == (str(folder / "garbage"), None, "upstreams.tls")


@each_command
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "cannot be read: No such file or directory"),
        ("pipe", "cannot be read: it is not a regular file"),
        ("garbage", "expected one token, of 16 to 512 visible ASCII characters"),
    ],
)
def test_a_token_file_that_cannot_be_used(
    folder: Path, arguments: tuple[str, ...], name: str, reason: str
) -> None:
    path = configuration(folder, admin={"token_file": str(folder / name)})
    ended = command(*arguments, path)
    assert ended.returncode == 2
    assert ended.stderr == f"{folder / name}: admin.token_file: {reason}\n"
