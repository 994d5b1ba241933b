"""Why a file fails: what it is, and what is wrong with it."""

import pytest
from decoding import seen

from fanfold.images.decode import DecodeError

REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"Dear Sir or Madam", "not a picture"),
    "html": (b"<!doctype html><html><body>404</body></html>", "not a picture"),
    "pdf": (b"%PDF-1.7\n" + b"\0" * 200, "not a picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    "jpeg-start": (b"\xff\xd8\xff\xe0", "."),
    "png-start": (b"\x89PNG\r\n\x1a\n", "."),
}


@pytest.mark.parametrize(("data", "said"), REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes, said: str) -> None:
    """What is no picture fails, and the message says what it is like."""
    with pytest.raises(DecodeError, match=said) as refusal:
        seen(data)
    assert "0x" not in str(refusal.value)  # no memory addresses: messages are grouped and counted
