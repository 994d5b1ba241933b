"""What `fanfold doctor` says of measuring handshakes."""

import json
import subprocess
import sys

from test_tls_link import without_user_namespaces

from commands import fanfold


def test_doctor_says_that_handshakes_can_be_measured() -> None:
    """The library that does them, with its version, and the kernel's congestion controls."""
    found = json.loads(fanfold("doctor", "--json").stdout)["tls"]
    assert "OpenSSL" in found["stack"]
    assert "cubic" in found["controls"]
    assert found["trouble"] == ""
    assert "can be measured over an emulated link, by pyOpenSSL" in fanfold("doctor").stdout


def test_doctor_says_why_they_cannot() -> None:
    """Where users may not make namespaces, it gives the reason, and the way without."""
    words = without_user_namespaces([sys.executable, "-m", "fanfold", "doctor", "--json"])
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert "does not let users make network namespaces" in found["tls"]["trouble"]
    assert any("--backend simulate" in sentence for sentence in found["advice"])
