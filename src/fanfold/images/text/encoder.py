"""A text encoder in ONNX Runtime: a text in, a vector of length 1 out."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from fanfold.errors import FanfoldError, UsageError
from fanfold.images.models.embedder import Vectors, session_options
from fanfold.images.models.registry import Text
from fanfold.images.text.files import files_of
from fanfold.images.text.tokens import Tokenizer, Tokens, check_extra, check_words
from fanfold.storage import first_line

IDS, MASK, KINDS = "input_ids", "attention_mask", "token_type_ids"
_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


class Graph:
    """The graph of a text encoder."""

    def __init__(self, file: Path) -> None:
        """Raises UsageError for a file that is not a graph from tokens."""
        try:
            self._session = ort.InferenceSession(str(file), session_options(), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            raise UsageError(f"{file} is not a text encoder that ONNX Runtime reads: {first_line(error)}") from error
        self.inputs = {one.name: one for one in self._session.get_inputs()}
        self.outputs = {one.name: one for one in self._session.get_outputs()}
        ids = [name for name in self.inputs if name not in (MASK, KINDS)]
        if len(ids) != 1 or any(one.type not in _TYPES for one in self.inputs.values()):
            found = ", ".join(f"{one.name} {one.type}" for one in self.inputs.values())
            raise UsageError(
                f"{file} is not a text encoder: it must take the tokens of a text, int64[n, length], and besides these "
                f"at most {MASK} and {KINDS}; it takes {found}."
            )
        (self.ids,) = ids

    @property
    def length(self) -> int | None:
        """The number of tokens that it takes, if it takes only that number."""
        axes = self.inputs[self.ids].shape
        return axes[1] if len(axes) == 2 and isinstance(axes[1], int) else None

    def run(self, tokens: Tokens, output: str) -> Any:
        """The output for a text, the first one for an empty name. Raises FanfoldError if the graph does not run."""
        given = {self.ids: tokens.ids, MASK: tokens.mask, KINDS: np.zeros_like(tokens.ids)}
        feed = {name: given[name].astype(_TYPES[one.type]) for name, one in self.inputs.items()}
        try:
            return self._session.run([output or next(iter(self.outputs))], feed)[0]
        except Exception as error:
            raise FanfoldError(f"The text encoder does not run on this text: {first_line(error)}") from error


class Encoder:
    """float32[dimension] of length 1 for a text."""

    def __init__(self, graph: Graph, tokenizer: Tokenizer, text: Text) -> None:
        self._graph = graph
        self._text = text
        self.tokenizer = tokenizer

    def __call__(self, words: str) -> Vectors:
        """The vector of a text. Raises UsageError for an empty text, FanfoldError if the model gives it none."""
        check_words(words)
        tokens = self.tokenizer(words)
        found = np.asarray(self._graph.run(tokens, self._text.output), np.float32)
        if self._text.pooled and found.shape[:-1] == tokens.mask.shape:  # float32[1, n, dimension]
            found = tokens.mask.astype(np.float32) @ found[0] / tokens.mask.sum()
        if self._text.centred:
            found = found - found.mean(axis=-1, keepdims=True)
        if found.ndim != 2 or len(found) != 1 or not np.isfinite(found).all() or not found.any():
            raise FanfoldError(
                f"The output '{self._text.output}' of the text encoder is not a vector: its shape is {found.shape}, or "
                "its values are not finite, or all zero."
            )
        vector: Vectors = found[0] / np.linalg.norm(found[0])
        return vector


@lru_cache(maxsize=2)  # a page asks many times
def open_encoder(text: Text) -> Encoder:
    """The text encoder, fetched if need be, and checked.

    Raises MissingExtra, UsageError for files that are not what they should be, FanfoldError if they cannot be fetched.
    """
    check_extra()  # before hundreds of megabytes are fetched
    files = files_of(text)
    return Encoder(Graph(files.graph), Tokenizer(files.tokenizer, text), text)
