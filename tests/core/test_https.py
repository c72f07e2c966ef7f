"""What becomes of HTTPS where nothing is written; the file is tested in tests/control."""

from dataclasses import FrozenInstanceError

import pytest

from proxy.core.https import HttpsMode, Intercept, Tls, TlsVersion


def test_the_words_of_the_file() -> None:
    assert [mode.value for mode in HttpsMode] == ["tunnel", "intercept", "originate"]
    assert [version.value for version in TlsVersion] == ["1.2", "1.3"]


def test_upstreams_are_verified_by_the_system_and_by_their_own_name_unless_something_is_written() -> None:
    tls = Tls()
    assert (tls.ca, tls.server_name, tls.min_version) == (None, None, TlsVersion.TLS_1_2)
    assert (tls.client_cert, tls.client_key) == (None, None)


def test_no_ca_is_made_or_written_anywhere_unless_something_is_written() -> None:
    intercept = Intercept()
    assert (intercept.directory, intercept.private_directory, intercept.ephemeral) == (None, None, False)
    assert (intercept.exclude, intercept.extra_roots) == ((), ())


def test_a_way_to_speak_tls_is_a_value() -> None:
    # Contexts are kept by it, and connections are kept apart by it.
    assert Tls(ca="one") == Tls(ca="one") != Tls(ca="two")
    assert len({Tls(), Tls(), Tls(min_version=TlsVersion.TLS_1_3)}) == 2
    with pytest.raises(FrozenInstanceError):
        Tls().ca = "other"  # type: ignore[misc]
