"""What `fanfold doctor` says of measuring handshakes."""

import json
import shlex
import subprocess
import sys

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
    command = (
        f"echo 0 > /proc/sys/user/max_user_namespaces; exec {shlex.quote(sys.executable)} -m fanfold doctor --json"
    )
    namespace = ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", command]
    found = json.loads(subprocess.run(namespace, capture_output=True, text=True, check=True).stdout)
    assert "does not let users make network namespaces" in found["tls"]["trouble"]
    assert any("--backend simulate" in sentence for sentence in found["advice"])
