"""`fanfold tls sizes`: bytes of handshakes, to the byte, and what they cost on a link."""

import json
import re
from pathlib import Path

import pytest

from commands import fanfold
from fanfold.errors import UsageError
from fanfold.tls.sizes import FIXED, of_mix, of_scheme, refusing_clients, sizes
from fanfold.tls.zoo import load

ZOO = load()


def size(name: str, profile: str = "2021") -> int:
    return of_scheme(ZOO, name, profile).size


def test_the_articles_figures_are_exact() -> None:
    """Six signatures and two keys: what each scheme has beyond ECDSA, and the article's mix."""
    assert size("ECDSA-P256") == 6 * 64 + 2 * 64
    assert size("Falcon-512") - size("P256") == 5278
    assert size("Dilithium2") - size("P256") == 16_632
    assert of_mix(ZOO, "chimera-2021", "").size - size("P256") == 5647


def test_every_profile_counts_its_slots() -> None:
    """ML-DSA-44, whose signature has 2,420 bytes and whose key has 1,312, in each profile."""
    counted = {
        "2021": 6 * 2420 + 2 * 1312,
        "2026": 5 * 2420 + 2 * 1312,
        "suppressed": 4 * 2420 + 1312,
        "mtc-standalone": 3 * 2420 + 1312 + 384,
        "mtc-landmark": 2420 + 1312 + 736,
        "kemtls": 4 * 2420 + 2 * 1312 - 1312 + 1184,
    }
    assert {profile: size("ML-DSA-44", profile) for profile in ZOO.profiles} == counted


def test_the_draft_of_merkle_tree_certificates_agrees() -> None:
    """Its 7,260 bytes of ML-DSA-44 are the suppressed chain without the signature and the key of the handshake."""
    assert size("ML-DSA-44", "suppressed") - 2420 - 1312 == 7260


def test_a_row_tells_the_flight_and_the_time() -> None:
    """ML-DSA-44 on a link of 50 ms and 20 Mbit/s takes one more round trip with a window of 10, and none with 30."""
    (row,) = sizes(["ml-dsa-44"], profile="2021", link="rtt=50ms,down=20Mbit").rows
    assert row.first_flight == 17_144 + FIXED
    assert [(time.initcwnd, round(time.ms, 1), time.extra_round_trips) for time in row.times] == [
        (10, 102.7, 1),
        (30, 58.1, 0),
    ]
    assert not row.fits


def test_what_is_broken_is_shown_when_it_is_asked_for() -> None:
    """The default list has no broken scheme; a broken one that is named comes with its attack."""
    shown = [row.handshake.name for row in sizes().rows]
    assert shown
    assert not any(ZOO.scheme(name).is_broken for name in shown)
    (row,) = sizes(["Rainbow-I-CZ"]).rows
    assert any("broken" in sentence and "2022/214" in sentence for sentence in row.handshake.warnings())


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        ("SLH-DSA-128f", "more than 16,384 B"),
        ("SQIsign-I", "for offline use only"),
        ("UOV-Is-pkc", "OpenSSL (more than 102,400 B)"),
    ],
)
def test_what_clients_and_servers_do_not_take_is_a_warning(scheme: str, words: str) -> None:
    """Signatures beyond OpenSSL's limit, slow signing at every handshake, and chains that clients refuse."""
    assert any(words in sentence for sentence in of_scheme(ZOO, scheme, "2021").warnings())


def test_what_is_within_the_limits_is_no_warning() -> None:
    """SLH-DSA-128s is below OpenSSL's limit of a signature; the certificates of 128f are below that of a list."""
    assert not any("16,384" in one for one in of_scheme(ZOO, "SLH-DSA-128s", "2021").warnings())
    assert not any("102,400" in one for one in of_scheme(ZOO, "SLH-DSA-128f", "2021").warnings())


def test_slots_name_whose_key_is_sent() -> None:
    """The leaf's key is sent for the handshake's signature, the intermediate's for that of the leaf."""
    done = fanfold("tls", "sizes", "ML-DSA-44", "--profile", "2021", "--slots")
    assert done.returncode == 0, done.stderr
    assert "handshake: 1 x ML-DSA-44 and the leaf's key" in done.stdout
    assert "leaf: 1 x ML-DSA-44 and the intermediate's key" in done.stdout
    assert "sct: 2 x ML-DSA-44  " in done.stdout


def test_the_table_is_as_the_docs_show_it() -> None:
    """The line of ML-DSA-44 has its bytes, its time, its slowdown and its round trip."""
    done = fanfold("tls", "sizes", "ML-DSA-44", "--profile", "2021", "--link", "rtt=50ms,down=20Mbit")
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("ML-DSA-44"))
    assert re.sub(r"\s+", " ", line).strip() == (
        "ML-DSA-44 17,144 B +16,632 no 19,277 B 102.7 ms +101% 1 RT 58.1 ms +13%"
    )
    assert "12,347 B with a window of 10, 41,307 B with a window of 30" in done.stdout


def test_json_has_what_the_table_has() -> None:
    """`--json` is for scripts: bytes, times and slots of each handshake."""
    done = fanfold("tls", "sizes", "Falcon-512", "--profile", "2021", "--link", "rtt=50ms,down=20Mbit", "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["bytes"], row["more_bytes"], row["fits_9_kb"], len(row["slots"])) == (5790, 5278, True, 5)
    assert [time["initcwnd"] for time in row["times"]] == [10, 30]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ML-DSA-45"], "'ML-DSA-45' is not a known signature scheme. Did you mean ML-DSA-"),
        (["--profile", "2025"], "'2025' is not a known profile. Did you mean 2026 or 2021?"),
        (["--mix", "chimera"], "'chimera' is not a known mix. Did you mean chimera-2021?"),
        (["--mix", "handshake=P256"], "has no scheme for leaf, intermediate, sct. Add: leaf=SCHEME"),
        (["--mix", "hands=P256"], "'hands' is not a known slot of the profile 2026. Did you mean handshake?"),
        (["--link", "rtt=0ms"], "The link's rtt must be between 1us and 10s."),
        (["--link", "rtt=50"], "The link's rtt is '50', but it takes a number and one of us, ms, s."),
        (["--link", "rtt=50ms,rtt=60ms"], "The link has two values of rtt. Leave one of them out."),
        (["--link", "mss=88.5"], "The link's mss must be a whole number, not 88.5."),
        (["--mix", "leaf=P256,leaf=RSA-2048"], "has two schemes for leaf. Leave one of them out."),
        (["--link", "rtt"], "'rtt' in the link has no value."),
        (["--link", "delay=3ms"], "'delay' is not a known setting of a link."),
        (["--base", "-1"], "--base takes a number of bytes"),
        (["--initcwnd", "0"], "The link's initcwnd must be between 1 and 1000."),
        (["--initcwnd", "1.5"], "--initcwnd takes a whole number, not 1.5."),
        (["x" * 9999], f"'{'x' * 100}' is not a known signature scheme."),
        (["--zoo", "absent.toml"], "Cannot read absent.toml"),
        (["--zoo", "s3://bucket/zoo.toml"], "--zoo takes a path on this machine, not s3://bucket/zoo.toml."),
        (["--zoo", ""], "--zoo is empty. If it came from a shell variable, that variable is not set."),
        (["--zoo", "/dev/null"], "Cannot read /dev/null: it is not a file."),
        (["--zoo", "x" * 300], "x: File name too long."),
        (["--zoo", "empty.toml"], "empty.toml has no [[scheme]], no [profile.NAME] and no [mix.NAME]"),
        (["--zoo", "binary.toml"], "binary.toml is not TOML, which is text in UTF-8."),
        (["--zoo", "huge.toml"], "huge.toml has 17 MB, and at most 17 MB are read of such a file."),
    ],
)
def test_mistakes_end_with_a_sentence(words: list[str], sentence: str, tmp_path: Path) -> None:
    """An unknown name is answered with the nearest known one, a bad number with its range; exit code 2."""
    for name, content in (("empty", b""), ("binary", bytes(range(256))), ("huge", b"#" * ((1 << 24) + 1))):
        (tmp_path / f"{name}.toml").write_bytes(content)
    done = fanfold("tls", "sizes", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in re.sub(r"\s+", " ", done.stderr)


def test_names_move_no_cursor(tmp_path: Path) -> None:
    """A scheme of somebody's file may be called anything: what would change a terminal's colours is shown as text."""
    (tmp_path / "zoo.toml").write_text(
        '[[scheme]]\nname = "\\u001b[31mred"\nlevel = 1\nstatus = "draft"\npk = 9\nsig = 9\nsizes = ["a", "b"]\n'
    )
    done = fanfold("tls", "sizes", "--zoo", "zoo.toml", "--slots", cwd=tmp_path)
    assert ("\\x1b[31mred" in done.stdout, "\x1b[31mred" in done.stdout) == (True, False)


def test_what_is_named_twice_is_counted_once() -> None:
    """A scheme by two of its names, a mix twice, a window twice; and a window that leaves no room."""
    found = sizes(["P256", "ECDSA-P256"], mix=["mldsa-uov", "mldsa-uov"], link="mss=100", initcwnd=[10, 10])
    assert [len(row.times) for row in found.rows] == [1, 1]
    done = fanfold("tls", "sizes", "P256", "--link", "mss=100", "--initcwnd", "10")
    assert "another round trip: none with a window of 10." in done.stdout


def test_the_room_is_that_of_the_profile_of_a_mix() -> None:
    """A named mix has a profile of its own, whose flight has more beside signatures and keys."""
    assert sizes(mix=["chimera-2021"]).room == sizes(["P256"], profile="2021").room == {10: 12_347, 30: 41_307}


def test_an_unknown_scheme_raises() -> None:
    """The function raises what the command shows."""
    with pytest.raises(UsageError, match="'X' is not a known signature scheme"):
        sizes(["X"])


def test_a_row_names_the_clients_that_refuse_it() -> None:
    """Clients of the known table whose limit of bytes is smaller; with a version where a newer one takes more."""
    assert refusing_clients(10_000) == []
    assert ("Java", 32_768) in refusing_clients(32_769)
    assert "OpenSSL" not in dict(refusing_clients(102_400))
    at_most = dict(refusing_clients(102_401))
    assert at_most["OpenSSL"] == 102_400
    assert [name for name in at_most if name.startswith("Go")] == ["Go 1.19.8"]
