"""Words as a text encoder takes them: CLIP's golden tokens, length, padding, case, prompt and end."""

import json
from pathlib import Path

import pytest
from tokenizer_files import END, GOLDEN, START, clip_tokenizer, word_tokenizer, written

from fanfold.errors import UsageError
from fanfold.images.models.registry import CLIP_TEXT, SIGLIP2_TEXT, SIGLIP_TEXT, Text
from fanfold.images.text.tokens import Tokenizer

PLAIN = Text("", "", "", "", "")


@pytest.fixture(name="clip", scope="module")
def _clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("clip"), clip_tokenizer())


@pytest.mark.parametrize(("words", "ids"), GOLDEN.items())
def test_golden(clip: Path, words: str, ids: list[int]) -> None:
    """CLIP's tokenizer gives the tokens of OpenAI's own, and they are filled up to 77 with the end's token."""
    tokens = Tokenizer(clip, CLIP_TEXT)(words)
    assert tokens.ids.tolist() == [ids + [END] * (77 - len(ids))]
    assert tokens.mask.tolist() == [[1] * len(ids) + [0] * (77 - len(ids))]
    assert not tokens.cut


def test_long_text(clip: Path) -> None:
    """Of a long text the first tokens count; it still has its start and its end."""
    tokens = Tokenizer(clip, CLIP_TEXT)("cat " * 200)
    assert tokens.ids.shape == (1, 77)
    assert tokens.ids[0, 0] == START
    assert tokens.ids[0, 1:-1].tolist() == [2368] * 75
    assert tokens.ids[0, -1] == END
    assert tokens.mask.all()
    assert tokens.cut


def test_own_settings_of_a_file(clip: Path, tmp_path: Path) -> None:
    """Padding and truncation that the file asks for give way to those that the encoder was trained with."""
    asked = json.loads(clip.read_text())
    asked["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 5,
        "pad_type_id": 0,
        "pad_token": "!",
    }
    asked["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    file = written(tmp_path, json.dumps(asked))
    plain = "a photo of a cat"
    assert Tokenizer(file, CLIP_TEXT)(plain).ids.tolist() == Tokenizer(clip, CLIP_TEXT)(plain).ids.tolist()
    assert Tokenizer(file, PLAIN)(plain).ids.tolist() == [GOLDEN[plain]]


WORDS = ["<pad>", "<eos>", "<unk>", "a", "white", "cat", "query:"]


@pytest.mark.parametrize("end", ["", "<eos>"])
def test_siglip2(tmp_path: Path, end: str) -> None:
    """SigLIP 2 gets lower case, one end, whether or not the file adds it, and zeros up to 64."""
    tokens = Tokenizer(written(tmp_path, word_tokenizer(WORDS, end)), SIGLIP2_TEXT)
    assert tokens("a WHITE Cat").ids.tolist() == [[3, 4, 5, 1] + [0] * 60]
    assert tokens("cat " * 80).ids.tolist() == [[5] * 63 + [1]]


def test_siglip(tmp_path: Path) -> None:
    """SigLIP is filled up with the end's token, where SigLIP 2 has another."""
    tokens = Tokenizer(written(tmp_path, word_tokenizer(WORDS, "<eos>")), SIGLIP_TEXT)
    assert tokens("a WHITE Cat").ids.tolist() == [[3, 4, 5, 1] + [1] * 60]


def test_own_length(tmp_path: Path) -> None:
    """An encoder that takes texts of any length gets one that is not filled up, in its own case, after its prompt."""
    text = Text("", "", "", "", "", prompt="query: ")
    tokens = Tokenizer(written(tmp_path, word_tokenizer(WORDS)), text)("white CAT")
    assert tokens.ids.tolist() == [[6, 4, 2]]
    assert tokens.mask.tolist() == [[1, 1, 1]]


def test_bytes_that_are_not_text(clip: Path) -> None:
    """An argument with bytes that are not UTF-8 has tokens, too."""
    assert Tokenizer(clip, CLIP_TEXT)("cat \udcff").ids[0, 1] == 2368


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": "1.0"}', "\0"])
def test_not_a_tokenizer(tmp_path: Path, content: str) -> None:
    """A file that is not a tokenizer is refused by name."""
    with pytest.raises(UsageError, match=r"tokenizer\.json is not a tokenizer"):
        Tokenizer(written(tmp_path, content), PLAIN)
