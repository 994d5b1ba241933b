"""What `fanfold images embed` does before and after a run: INT8 models, and the text encoder of one's own model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from cyclopts import Parameter

import fanfold
from fanfold.cli.jobs import Asked
from fanfold.images import Images
from fanfold.images.calibration import Calibration


@dataclass(frozen=True)
class Preparing(Calibration):
    """Makes the INT8 model of a run, and keeps a text encoder with its table, if asked to."""

    text_model: Annotated[str, Parameter(show_default=False)] = field(
        default="",
        metadata={
            "help": "The text encoder that goes with --model, for `search --text`: a file.onnx or "
            "hf://org/repo/path.onnx@revision, with a tokenizer.json beside it. Known models have theirs."
        },
    )

    @contextmanager
    def prepared(self, job: Images, asked: Asked) -> Iterator[Images]:
        """The job with its model. A text encoder is tried before the run and kept with the table after it."""
        if not self.text_model:
            with super().prepared(job, asked) as made:
                yield made
            return
        from fanfold.images.models.model import ready
        from fanfold.images.text import own, twin

        text = own.text_of(self.text_model)
        twin.check(text, ready(job.model).dimension)
        with super().prepared(job, asked) as made:
            yield made
        if asked.executor:  # not for a plan, which leaves nothing behind
            twin.keep(fanfold.open_table(asked.database, asked.table), text)
