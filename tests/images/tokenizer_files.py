"""Files of tokenizers for tests: CLIP's, as far as a few sentences need it, and one that knows a list of words.

CLIP numbers its tokens by their place in its list of merges. MERGES are those that the sentences in GOLDEN need, by
their place in that list (https://github.com/openai/CLIP, MIT licence, (c) 2021 OpenAI). So the numbers are CLIP's own.
"""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

MERGES = """
0 i n
1 t h
3 r e
7 in g</w>
9 o n
13 o n</w>
17 i t
19 t o</w>
24 a t</w>
27 o f</w>
31 i l
34 a c
35 o m
46 ð Ł
51 v e</w>
56 ' s</w>
60 l a
61 w h
64 e n</w>
73 i t</w>
82 a d
94 h o
125 on e</w>
127 d o
152 l u
177 g re
190 a f
201 ' t</w>
213 ac k</w>
222 s om
224 re d</w>
266 f a
290 it e</w>
304 p ho
321 b l
335 d on</w>
397 s k
434 th ing</w>
454 t w
466 s m
477 il e</w>
585 n a
613 pho to</w>
620 som e
725 tw o</w>
751 b lu
833 g s</w>
937 bl ack</w>
966 ðŁ Ļ
1067 wh ite</w>
1234 blu e</w>
1389 gre en</w>
1416 ad e</w>
1494 some thing</w>
1856 c at</w>
1878 sk y</w>
2054 a u</w>
2743 do gs</w>
2959 c af
2978 sm ile</w>
3041 x x</w>
3654 Ã ©</w>
4534 gre y</w>
5163 x x
7840 x xx</w>
9555 Ã §
14348 ðŁĻ Ĥ</w>
14792 caf Ã©</w>
35177 Ã ¯
43683 xx xxx</w>
"""

GOLDEN: dict[str, list[int]] = {
    "a photo of a cat": [49406, 320, 1125, 539, 320, 2368, 49407],
    "A PHOTO  of a Cat": [49406, 320, 1125, 539, 320, 2368, 49407],
    "a photo of something red": [49406, 320, 1125, 539, 2006, 736, 49407],
    "blue sky": [49406, 1746, 2390, 49407],
    "a WHITE cat": [49406, 320, 1579, 2368, 49407],
    "green": [49406, 1901, 49407],
    "black": [49406, 1449, 49407],
    "grey": [49406, 5046, 49407],
    "two dogs, one cat!": [49406, 1237, 3255, 267, 637, 2368, 256, 49407],
    "it's 1984": [49406, 585, 568, 272, 280, 279, 275, 49407],
    "café au lait": [49406, 15304, 2566, 572, 585, 49407],
    "猫": [49406, 163, 234, 360, 49407],
    "🙂 smile": [49406, 14860, 3490, 49407],
    "don't": [49406, 847, 713, 49407],
    "xxxxx": [49406, 44195, 49407],
    "naïve façade": [49406, 1097, 35689, 563, 778, 10067, 1928, 49407],
    "": [49406, 49407],
}
"""Sentences and their tokens, from the tokenizer of OpenAI's CLIP with all of its vocabulary."""

START, END = 49406, 49407
_PARTS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def clip_tokenizer() -> str:
    """CLIP's tokenizer.json with the merges above."""
    merges = [(int(place), (one, two)) for place, one, two in (line.split() for line in MERGES.strip().splitlines())]
    vocabulary = {letter: number for number, letter in enumerate(_letters())}
    vocabulary |= {f"{letter}</w>": 256 + number for letter, number in vocabulary.items()}
    vocabulary |= {"".join(pair): 512 + place for place, pair in merges}
    vocabulary |= {"<|startoftext|>": START, "<|endoftext|>": END}
    model = models.BPE(vocabulary, [pair for _, pair in merges], end_of_word_suffix="</w>", unk_token="<|endoftext|>")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(_PARTS), "removed", invert=True)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, letters])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", END), ("<|startoftext|>", START), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer.to_str()


def _letters() -> list[str]:
    """A letter for each byte, in CLIP's order: those that can be printed as themselves come first."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printed] + [chr(256 + number) for number in range(256 - len(printed))]


def word_tokenizer(words: Sequence[str], end: str = "", punctuation: bool = True) -> str:
    """A tokenizer.json that knows these words in this order, in lower case only; with `end`, it ends a text with it.

    Without `punctuation`, that is left out.
    """
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    spaces = pre_tokenizers.WhitespaceSplit()
    without = pre_tokenizers.Sequence([spaces, pre_tokenizers.Punctuation("removed")])
    tokenizer.pre_tokenizer = spaces if punctuation else without
    if end:
        tokenizer.post_processor = processors.TemplateProcessing(f"$A {end}", None, [(end, vocabulary[end])])
    return tokenizer.to_str()


def written(folder: Path, content: str) -> Path:
    """The content as tokenizer.json in a folder."""
    (folder / "tokenizer.json").write_text(content)
    return folder / "tokenizer.json"
