"""fastembed's image pipeline (Pillow, NumPy, ONNX Runtime) on the model fanfold uses.

fastembed knows a fixed list of image models, so the file is added to that list, with the preprocessing beside it in
the form of Hugging Face's preprocessor_config.json. Its vectors are normalised; that costs nothing.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from common import Bench
from fastembed import ImageEmbedding
from fastembed.common.model_description import DenseModelDescription, ModelSource
from fastembed.image.onnx_embedding import OnnxImageEmbedding, supported_onnx_models

bench = Bench(parallel=2, batch=16, threads=2)

NAME = "bench/efficientnet-lite0"
CONFIG = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,  # bicubic, in Pillow's numbering
    "do_center_crop": True,
    "crop_size": 224,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [127 / 255] * 3,
    "image_std": [128 / 255] * 3,
}

# At import, since fastembed's worker processes import this file again.
supported_onnx_models.append(
    DenseModelDescription(
        model=NAME,
        sources=ModelSource(hf=NAME),  # never downloaded, because the folder is given
        model_file="model.onnx",
        description="EfficientNet-Lite0",
        license="apache-2.0",
        size_in_GB=0.02,
        dim=1280,
    )
)


def folder_of(model: str) -> str:
    """A folder in fastembed's layout: the model and its preprocessing."""
    folder = Path(model).with_suffix(".fastembed")
    folder.mkdir(exist_ok=True)
    shutil.copyfile(model, folder / "model.onnx")
    (folder / "preprocessor_config.json").write_text(json.dumps(CONFIG))
    return str(folder)


_embed = OnnxImageEmbedding.onnx_embed


def _timed(self: OnnxImageEmbedding, images: list[str], **kwargs: Any) -> Any:
    bench.start()  # the first worker with a model starts the clock, because starting workers is not work
    return _embed(self, images, **kwargs)


OnnxImageEmbedding.onnx_embed = _timed


def main() -> None:
    """Embed the pictures of the list; parallel=0 means ONNX Runtime's own threads in one process."""
    folder, parallel = folder_of(bench.model), bench["parallel"] or None
    model = ImageEmbedding(NAME, threads=bench["threads"], lazy_load=bool(parallel), specific_model_path=folder)
    vectors = list(model.embed(bench.paths, batch_size=bench["batch"], parallel=parallel))
    bench.finish(np.stack(vectors))


if __name__ == "__main__":
    main()
