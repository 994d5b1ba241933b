"""A text encoder of one's own, by `--text-model`: its facts, from the files themselves.

hf://org/repo/onnx/text_model.onnx@revision        ─┐   tokenizer.json            beside it, else at the top
or a file.onnx                                     ─┴─▶ tokenizer_config.json     likewise, if there is one
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from fanfold.errors import UsageError
from fanfold.images.models import hub
from fanfold.images.models.registry import Text, known_text
from fanfold.images.text.encoder import MASK, Graph
from fanfold.images.text.files import OTHERWISE, hash_of
from fanfold.images.text.tokens import check_extra, reader_of
from fanfold.storage import absolute

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
_VECTORS = ("text_embeds", "text_embedding", "sentence_embedding", "pooler_output", "embed")
"""Parts of an output's name, the surest first. CLIP's `pooler_output` is not in the space of pictures."""
_MOST = 1 << 16  # some files write 10^30 for "no limit"


def text_of(address: str) -> Text:
    """The facts of a text encoder. Raises UsageError if they are not in its files, FanfoldError as `files_of`."""
    check_extra()
    source, graph, found = _on_hub(address) if address.startswith(hub.SCHEME) else _here(address)
    if TOKENIZER not in found:
        raise UsageError(f"{address} has no {TOKENIZER} beside it. A text encoder needs the one it was trained with.")
    tokenizer, tokenizer_file = found[TOKENIZER]
    hashes = hash_of(graph), hash_of(tokenizer_file)
    if known := known_text(*hashes):
        return replace(known, source=source, tokenizer=tokenizer)
    settings = _settings(found[SETTINGS][1]) if SETTINGS in found else {}
    facts = _facts(address, Graph(graph), reader_of(tokenizer_file), settings)
    return Text(source, tokenizer, *hashes, **facts)


Found = tuple[str, Path, dict[str, tuple[str, Path]]]
"""A graph's address and file, and the address and file of what is beside it, by name."""


def _here(address: str) -> Found:
    if not address.lower().endswith(".onnx"):
        raise UsageError(f"--text-model takes a file.onnx or hf://org/repo/path.onnx@revision, not {address}.")
    graph = Path(absolute(address))
    if not graph.is_file():
        raise UsageError(f"The file {address} does not exist.")
    beside = {name: graph.with_name(name) for name in (TOKENIZER, SETTINGS)}
    return str(graph), graph, {name: (str(path), path) for name, path in beside.items() if path.is_file()}


def _on_hub(address: str) -> Found:
    asked = hub.Address.parse(address)
    fetched = hub.fetch(asked, config=False, otherwise=OTHERWISE)
    found = {}
    for name in (TOKENIZER, SETTINGS):
        for place in _places(asked, fetched.revision, name):
            try:
                found[name] = str(place), Path(hub.fetch(place, config=False, otherwise=OTHERWISE).file)
            except hub.NotThere:
                continue
            break
    return str(hub.Address(asked.repo, asked.path, fetched.revision)), Path(fetched.file), found


def _places(address: hub.Address, revision: str, name: str) -> Iterator[hub.Address]:
    for path in dict.fromkeys([str(PurePosixPath(address.path).with_name(name)), name]):
        yield hub.Address(address.repo, path, revision)


def _settings(file: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(file.read_bytes())
    except ValueError as error:
        raise UsageError(f"{file} is not JSON: {error}.") from error
    if not isinstance(settings, dict):
        raise UsageError(f"{file} is not a tokenizer's configuration: it must be an object.")
    return settings


# -- facts ----------------------------------------------------------------------------------------------------------


def _facts(address: str, graph: Graph, reader: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Length, padding, case and output. The tokenizer's own settings come first, then those beside it."""
    padding, truncation = reader.padding or {}, reader.truncation or {}
    lengths = (graph.length, truncation.get("max_length"), padding.get("length"), settings.get("model_max_length"))
    length = next((int(one) for one in lengths if isinstance(one, int | float) and 1 <= one < _MOST), None)
    fixed = graph.length is not None or MASK not in graph.inputs
    pad = _pad(reader, padding, settings) if fixed else None
    if fixed and (length is None or pad is None):
        what = "how many tokens a text has" if length is None else "which token fills up a text"
        raise UsageError(
            f"The text encoder {address} takes texts of one length, and its {TOKENIZER} does not say {what}. Add it "
            "with the Python package 'tokenizers': tokenizer.enable_truncation(LENGTH), "
            "tokenizer.enable_padding(length=LENGTH, pad_id=PAD), tokenizer.save('tokenizer.json')"
        )
    return {
        "output": _output(address, graph),
        "length": length,
        "pad": pad,
        "lower": bool(settings.get("do_lower_case")),
    }


def _pad(reader: Any, padding: Mapping[str, Any], settings: Mapping[str, Any]) -> int | None:
    """The token that fills up a text."""
    if "pad_id" in padding:
        return int(padding["pad_id"])
    token = settings.get("pad_token")
    name = token.get("content") if isinstance(token, dict) else token
    found: int | None = reader.token_to_id(name) if isinstance(name, str) else None
    return found


def _output(address: str, graph: Graph) -> str:
    """The output that is a vector for a text, by its name, else the only one."""
    flat: list[str] = [name for name, one in graph.outputs.items() if len(one.shape) in (0, 2)]  # 0: not known
    named = [name for part in _VECTORS for name in flat if part in name.lower()]
    if not named and len(flat) != 1:
        raise UsageError(f"The text encoder {address} has no output that is a vector: {', '.join(graph.outputs)}.")
    return (named or flat)[0]
