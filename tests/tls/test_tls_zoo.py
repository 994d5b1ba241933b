"""The zoo: fanfold's own figures, and files of more schemes."""

import re
from pathlib import Path

import pytest

from fanfold.errors import UsageError
from fanfold.tls.sizes import sizes
from fanfold.tls.zoo import load

SCHEME = """
[[scheme]]
name = "Mine-1"
level = 1
status = "draft"
pk = 100
sig = 1000
sizes = ["ran:here", "pub:there"]
"""


def test_every_figure_has_its_witnesses() -> None:
    """Two independent ones, or a mark that it is known to be the only one; an attack has a source."""
    zoo = load()
    assert len(zoo.schemes) > 25
    for scheme in zoo.schemes.values():
        assert len(scheme.sizes) >= 2 or scheme.single
        assert scheme.attack is None or scheme.attack.source.startswith("ePrint ")
    for mix in zoo.mixes.values():
        assert {slot.name for slot in zoo.profile(mix.profile).slots} == mix.slots.keys()


def test_a_file_adds_schemes_and_replaces_those_of_the_same_name(tmp_path: Path) -> None:
    """`--zoo`: a scheme of one's own, and other sizes of a known one; the rest stays. BOM and CRLF do no harm."""
    file = tmp_path / "mine.toml"
    text = SCHEME + SCHEME.replace("Mine-1", "ML-DSA-44").replace("1000", "2000")
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    counted = {row.handshake.name: row.handshake.size for row in sizes(profile="2021", zoo=str(file)).rows}
    assert (counted["Mine-1"], counted["ML-DSA-44"]) == (6 * 1000 + 2 * 100, 6 * 2000 + 2 * 100)
    assert counted["Falcon-512"] == 5790


def test_a_file_may_have_profiles_and_mixes(tmp_path: Path) -> None:
    """A profile of one's own, which differs from a known one, and a mix for it."""
    file = tmp_path / "mine.toml"
    file.write_text(
        '[profile.mine]\nabout = "two SCTs fewer"\nbase = "2026"\ndrop = ["sct"]\n'
        '[mix.both]\nabout = "two schemes"\nprofile = "mine"\n'
        'slots = { handshake = "ML-DSA-44", leaf = "P256", intermediate = "P256" }\n'
    )
    (row,) = sizes(mix=["both"], zoo=str(file)).rows
    assert row.handshake.size == 2420 + 1312 + 64 + 64 + 64


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("sig = 1000", "sig = 0"), "line 7: scheme[1].sig: it should be greater than 0, not 0."),
        (("sig = 1000", "sig = 1000\nsgi = 5"), "line 8: scheme[1].sgi: there is no such setting."),
        (("sig = 1000\n", ""), "line 2: scheme[1].sig: it is missing."),
        (('"draft"', '"new"'), "line 5: scheme[1].status: it should be 'standard', 'draft'"),
        ((', "pub:there"', ""), "line 2: scheme[1]: `sizes` has one witness: give a second one, or `single = true`."),
        (("level = 1", "level = ="), "is not TOML"),
        (("[[scheme]]", "[scheme]"), "line 2: write [[scheme]], with two brackets."),
        (("level = 1", f"level = {'[' * 5000}"), "its lists are nested too deeply."),
        (("[[scheme]]", "[[schemes]]"), "line 2: schemes: there is no such setting."),
    ],
)
def test_a_file_that_is_not_valid_is_named_with_the_line(
    tmp_path: Path, change: tuple[str, str], sentence: str
) -> None:
    """A size of nothing, an unknown setting, a missing one, a single witness: each ends with the line of the file."""
    file = tmp_path / "mine.toml"
    file.write_text(SCHEME.replace(*change))
    with pytest.raises(UsageError, match=re.escape(sentence)) as raised:
        load(str(file))
    assert str(file) in str(raised.value)


def test_a_scheme_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """Two schemes of one name in a file: the second one's line is named."""
    file = tmp_path / "mine.toml"
    file.write_text(SCHEME + SCHEME)
    with pytest.raises(UsageError, match=r"line 11: the scheme 'Mine-1' is in the file twice"):
        load(str(file))
    file.write_text(SCHEME + SCHEME.replace("Mine-1", "mine-1"))
    with pytest.raises(UsageError, match=r"line 11: the scheme 'mine-1' is in the file twice"):
        load(str(file))
    file.write_text(SCHEME + SCHEME.replace("Mine-1", "Mine-2").rstrip() + '\naliases = ["MINE-1"]\n')
    with pytest.raises(UsageError, match=r"line 11: the scheme 'Mine-2', as 'mine-1' is in the file twice"):
        load(str(file))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('profile = "2025"\nslots = {handshake = "P256"}', "line 3: '2025' is not a known profile. Did you mean 2026"),
        ('profile = "2026"\nslots = {handshake = "P257"}', "line 4: 'P257' is not a known signature scheme. Did you"),
        ('profile = "2026"\nslots = {shake = "P256"}', "line 4: 'shake' is not a known slot of the profile 2026. Did"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """A mix of a profile, a scheme or a slot that is not there is named when the file is read, not when it is used."""
    file = tmp_path / "mine.toml"
    file.write_text(f'[mix.mine]\nabout = "x"\n{text}\n')
    with pytest.raises(UsageError, match=re.escape(sentence)):
        load(str(file))


def test_slots_of_a_profile_are_there_and_differ(tmp_path: Path) -> None:
    """Two slots of one name, and a slot to leave out that the base does not have."""
    file = tmp_path / "mine.toml"
    slot = '{name = "leaf", sigs = 1, pks = 1}'
    file.write_text(f'[profile.mine]\nabout = "x"\nslots = [{slot}, {slot}]\n')
    with pytest.raises(UsageError, match=r"line 1: profile.mine: two of its `slots` have the same name"):
        load(str(file))
    file.write_text('[profile.mine]\nabout = "x"\nbase = "2021"\ndrop = ["sct", "ocps"]\n')
    with pytest.raises(UsageError, match=r"line 4: .* slot of the profile 2021. Did you mean ocsp\?"):
        load(str(file))


@pytest.mark.parametrize(
    ("base", "sentence"), [("mine", "is its own base"), ("gone", "its base 'gone' is not a known profile")]
)
def test_a_profile_without_an_end_is_refused(tmp_path: Path, base: str, sentence: str) -> None:
    """A profile that is its own base, and one whose base is not there."""
    file = tmp_path / "mine.toml"
    file.write_text(f'[profile.mine]\nabout = "x"\nbase = "{base}"\n')
    with pytest.raises(UsageError, match=f"line 3: .*{sentence}"):
        load(str(file))


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    """A folder, as a device, is never read."""
    with pytest.raises(UsageError, match="it is not a file"):
        load(str(tmp_path))
