"""`fanfold images quantize` and `models`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fanfold.cli import Json
from fanfold.cli import show as shown
from fanfold.errors import MissingExtra, UsageError
from fanfold.images import Images
from fanfold.images.calibration import Calibration, valid_cosine
from fanfold.images.cli import show
from fanfold.images.models.model import MIN_COSINE
from fanfold.images.models.registry import MODELS
from fanfold.source import open_source

Job = Annotated[Images, Parameter(name="*")]  # every field of the job is a flag
MinCosine = Annotated[float, Parameter(help=Calibration.__dataclass_fields__["min_cosine"].metadata["help"])]


def quantize(
    source: Annotated[str, Parameter(help="Pictures to calibrate on: a folder, a list or a URL.")],
    out: Annotated[Path, Parameter(help="The file to write, such as model.onnx. Use it with --model.")],
    /,
    *,
    job: Job = Images(),  # noqa: B008 - frozen
    min_cosine: MinCosine = MIN_COSINE,
    json: Json = False,
) -> int:
    """Make the INT8 version of a model, calibrated on some of your pictures, and show how similar its vectors are.

    For example: `fanfold images quantize photos small.onnx`
    """
    if out.suffix != ".onnx":
        raise UsageError(f"The file to write must end in .onnx, but {out} does not.")
    from fanfold.images.models import quantize as quantizing

    made = quantizing.quantize(job, open_source(source), valid_cosine(min_cosine))
    try:
        out.write_bytes(made.content)
    except OSError as error:
        raise UsageError(f"Cannot write {out}: {error.strerror}.") from error
    if json:
        shown.put_json({"file": str(out)} | {key: value for key, value in asdict(made).items() if key != "content"})
    else:
        shown.out.print(f"{shown.harmless(str(out))}: {made}.", soft_wrap=True)
    return 0


def models(*, json: Json = False) -> int:
    """List the names that --model takes. It also takes a file.onnx or hf://org/repo/path.onnx@revision.

    For example: `fanfold images models`
    """
    show.models([asdict(model) for model in MODELS], json)
    for model in MODELS:
        if not model.is_installed:
            shown.note(str(MissingExtra(model.extra, f"The model '{model.name}'")))
    return 0
