"""Random bytes, and pictures with changed bytes: a row or a DecodeError, and nothing else."""

from typing import Any

from decoding import encoded, seen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fanfold.images.decode import DecodeError, View


def row_or_refusal(data: bytes) -> None:
    """Decode, and ignore only a DecodeError."""
    try:
        _, facts = seen(data, View(16, 0.875, max_pixels=1 << 20))
    except DecodeError:
        return
    assert facts.width > 0
    assert facts.height > 0


MAGICS = [
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF0000WEBPVP8 ",
    b"II*\0",
    b"MM\0*",
    b"BM",
    b"P6 ",
    b"\0\0\0\x1cftypavif",
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"", *MAGICS]), st.binary(max_size=400))
def test_random_bytes(magic: bytes, rest: bytes) -> None:
    """Random bytes after the first bytes of any format are a row or a DecodeError."""
    row_or_refusal(magic + rest)


SEEDS: list[tuple[str, dict[str, Any], str]] = [
    ("JPEG", {}, "RGB"),
    ("JPEG", {"progressive": True}, "RGB"),
    ("JPEG", {}, "CMYK"),
    ("PNG", {}, "RGBA"),
    ("PNG", {}, "P"),
    ("GIF", {}, "P"),
    ("WEBP", {}, "RGB"),
    ("BMP", {}, "RGB"),
    ("TIFF", {"compression": "tiff_lzw"}, "RGB"),
    ("TIFF", {}, "CMYK"),
    ("AVIF", {}, "RGB"),
    ("PPM", {}, "RGB"),
]
"""Small pictures to damage: format, options, mode."""


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(range(len(SEEDS))),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    st.floats(0, 1),
)
def test_mutated_pictures(picture: Image.Image, seed: int, flips: list[tuple[float, int]], keep: float) -> None:
    """Real pictures with overwritten bytes and a missing end are a row or a DecodeError."""
    form, options, mode = SEEDS[seed]
    data = bytearray(encoded(picture.resize((40, 30)).convert(mode), form, **options))
    for place, value in flips:
        data[int(place * (len(data) - 1))] = value
    row_or_refusal(bytes(data[: max(1, int(len(data) * (0.3 + keep)))]))
