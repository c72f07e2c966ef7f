"""Which addresses are this machine's own: the kernel is asked."""

import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from proxy.wire.local import is_local

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::"])
def test_addresses_of_this_machine(address: str) -> None:
    assert is_local(ip_address(address))


@pytest.mark.parametrize("address", ["192.0.2.1", "8.8.8.8", "2001:db8::1", "64:ff9b::7f00:1"])
def test_addresses_of_others(address: str) -> None:
    assert not is_local(ip_address(address))


WITHOUT_DESCRIPTORS = """
import os, resource
from ipaddress import ip_address
from proxy.wire.local import is_local
free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
print(is_local(ip_address("192.0.2.1")))
"""


def test_where_the_kernel_cannot_be_asked_the_answer_is_yes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
