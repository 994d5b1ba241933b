"""What `fanfold images embed` does before and after a run: INT8 models, and the text encoder of one's own model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

import fanfold
from fanfold.cli import show
from fanfold.cli.jobs import Asked
from fanfold.errors import StorageError, UsageError
from fanfold.images import Images
from fanfold.images.calibration import Calibration

if TYPE_CHECKING:
    from fanfold.images.models.registry import Text


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
            _keep(text, asked)


def _keep(text: "Text", asked: Asked) -> None:
    """Keep a text encoder with the table of a run."""
    from fanfold.images.text import twin

    try:
        twin.keep(fanfold.open_table(asked.database, asked.table), text)
    except (UsageError, StorageError) as error:  # a run on AWS Batch goes on, and may not have made its table yet
        show.note(f"The text encoder is not kept: {error} Run the same command again when the run has ended.")
