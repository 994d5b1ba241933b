"""The known models: their names, where their weights are, and how a picture becomes their input."""

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fanfold.images.models import efficientnet_lite

if TYPE_CHECKING:
    from fanfold.images.decode.view import Filter, Fit

Rgb = tuple[float, float, float]

IMAGENET_MEAN: Rgb = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_DEVIATION: Rgb = (0.229 * 255, 0.224 * 255, 0.225 * 255)
CLIP_MEAN: Rgb = (0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255)
CLIP_DEVIATION: Rgb = (0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes a model's input: a square of pixels, then (rgb - mean) / deviation."""

    size: int = 224
    """Side of the square that the model sees, in pixels."""
    crop: float = 0.875
    """Side of the square, as a fraction of the picture's short side; with `squash`, of each of its sides."""
    mean: Rgb = IMAGENET_MEAN
    """Mean of red, green and blue, in 0..255."""
    deviation: Rgb = IMAGENET_DEVIATION
    """Standard deviation of red, green and blue, in 0..255."""
    fit: "Fit" = "crop"
    """Whether the model sees the middle square, or the whole picture squeezed into a square."""
    filter: "Filter" = "bicubic"
    """How the picture is resized; always antialiased."""

    def __str__(self) -> str:
        mean, deviation = (", ".join(f"{value:.6g}" for value in values) for values in (self.mean, self.deviation))
        part = "the short side to" if self.fit == "crop" else "both sides squeezed to a square of"
        return f"middle {self.crop:g} of {part} {self.size} px, (rgb - [{mean}]) / [{deviation}]"


@dataclass(frozen=True, slots=True)
class Text:
    """The text encoder that shares a model's space of vectors, and how words become its input."""

    source: str
    """Its graph: an address on the Hugging Face hub with its commit, or the path of a file."""
    tokenizer: str
    """Its tokenizer.json, likewise."""
    sha256: str
    """SHA-256 of the graph's file."""
    tokenizer_sha256: str
    """SHA-256 of the tokenizer's file."""
    output: str
    """The output of the graph that is the vector; empty for its first one."""
    length: int | None = None
    """Most tokens of a text, those that mark its start and end included; None if any number is taken."""
    pad: int | None = None
    """The token that fills up a text to `length`; None if a text keeps its own length."""
    end: int | None = None
    """The token that ends a text, whether or not the tokenizer adds it; None if that is left to the tokenizer."""
    lower: bool = False
    """Whether a text is lower-cased before the tokenizer gets it."""
    pooled: bool = False
    """Whether the output has a vector for each token, and the text's is their mean, without those that fill it up."""
    centred: bool = False
    """Whether the values of a vector are moved to a mean of 0, as layer normalisation does it. (Scale does not matter,
    since vectors are compared by cosine.)"""
    prompt: str = ""
    """What is put before a text, as the model was trained: `search_query: `."""
    label_prompt: str = "a photo of a {}."
    """How a label becomes a text."""
    scale: float | None = None
    """What the model multiplies cosines by; CLIP's is used if it is not known. Softmax over some texts then gives the
    probability that each is the one that fits a picture."""
    bias: float | None = None
    """With it, each text has a probability of its own, whatever the others: 1 / (1 + exp(-(scale * cosine + bias)))."""
    download_bytes: int = 0
    """Bytes of the download before the first search by text."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model with a name."""

    name: str
    dimension: int
    licence: str
    """SPDX identifier."""
    download_bytes: int
    """Bytes of the download before the first use; 0 if it comes with the packages."""
    source: str
    """A Python package, or an address on the Hugging Face hub with its commit."""
    preprocessing: Preprocessing | None = Preprocessing()
    """None if it is read from the preprocessor_config.json beside it."""
    sha256: str = ""
    """SHA-256 of the file at `source`, if it is known."""
    extra: str = "images"
    """The extra of fanfold that it needs."""
    text: Text | None = None
    """What embeds text as vectors that can be compared with its own; None if nothing does."""

    @property
    def needs_download(self) -> bool:
        """Whether it is fetched before its first use."""
        return self.download_bytes > 0

    @property
    def commit(self) -> str:
        """The commit of the hub's repository that it comes from; empty for a Python package."""
        return self.source.partition("@")[2]

    @property
    def is_installed(self) -> bool:
        """Whether its Python package is here; a model that is fetched has none."""
        return self.needs_download or find_spec(self.source.replace("-", "_")) is not None


_CLIP = Preprocessing(crop=1.0, mean=CLIP_MEAN, deviation=CLIP_DEVIATION)
_RESNET18 = "hf://Xenova/resnet-18/onnx/model.onnx@957422cff86e0c0a2807a472a90cc0e4daf44b18"
_RESNET50 = "hf://Xenova/resnet-50/onnx/model.onnx@6c3e3831c3ad5c76f4e2326efeed6044586aad21"
_DINO = "hf://Xenova/dinov2-small/onnx/model.onnx@c2bb04a51fab207c420665f1946016107bffc701"
_DINO_HASH = "83141175ec78b4ff9a2bb58a4c7c264ba0054d1c2e122e5a8114b79a8d4179ea"
_CLIP_VISION = "hf://Qdrant/clip-ViT-B-32-vision/model.onnx@e0c24ed0fa57fa3e4f97f30de74c51d944036ace"
_CLIP_HASH = "c68d3d9a200ddd2a8c8a5510b576d4c94d1ae383bf8b36dd8c084f94e1fb4d63"
_SIGLIP2 = "hf://onnx-community/siglip2-base-patch16-224-ONNX/{}@ba1f3b0843f24bc5417d38e19c37b287d719b2f4"
_SIGLIP2_HASH = "a1959f7bd3993a607e48839f6d01e25b876fe76afda301b028b78eef68aabd95"
_SIGLIP = "hf://Xenova/siglip-base-patch16-224/{}@4649052661e53c7000355844105f8a1792088239"
_SIGLIP_HASH = "f89d41bac7f4d4b87e010a467d93f98689d708916ed22f5a07f96fdfa26f475f"
_RCLIP = (
    "hf://yurijmikhalevich/rclip-models/ViT-B-32-256-datacomp_s34b_b86k/{}@17b9d07433aad73f70d338d8a1c7a4cef83887e0"
)
_RCLIP_HASH = "3f7e6f94e5a34bc7ee8aba84aec0f963f56974ab405fbcd334c8e1c3f832bd2c"
_LAION = "hf://laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K/{}@4afec35ffe57a943d569ff7ee888061830164da8"
_JINA = "hf://jinaai/jina-clip-v1/{}@ceb3e44ca4d6eceaa4f3fb58b1c1a5748b3f29b6"
_JINA_HASH = "3032bf5f20bc39e23e9d2fff51ed1406341f1490bade128ffdcc6307af63c246"
_NOMIC_VISION = "hf://nomic-ai/nomic-embed-vision-v1.5/onnx/model.onnx@e3a725bce72db07ca4adb1d83da08903f3ee02f8"
_NOMIC = "hf://nomic-ai/nomic-embed-text-v1.5/{}@e9b6763023c676ca8431644204f50c2b100d9aab"
_CENTRED = (0.5 * 255,) * 3

CLIP_SCALE = 100.0
"""CLIP's, and the highest that its training allows. https://arxiv.org/abs/2103.00020, 2.5"""
_SIGLIP_PROMPT = "this is a photo of {}"
"""https://huggingface.co/docs/transformers/model_doc/siglip, as SigLIP's tokenizer leaves it: without a full stop"""

CLIP_TEXT = Text(
    source="hf://Qdrant/clip-ViT-B-32-text/model.onnx@371054a536db792542756cade10bec4d25eddb2d",
    tokenizer="hf://Qdrant/clip-ViT-B-32-text/tokenizer.json@371054a536db792542756cade10bec4d25eddb2d",
    sha256="4dbe762b11e36488304471e439cde89da053ad7acaddbf9e096745d142ec8d8b",
    tokenizer_sha256="b68d571997a1f81bf521fb73806740ddb91e4ed6666cb6e996c066bb289cf55b",
    output="text_embeds",
    length=77,
    pad=49407,
    end=49407,
    lower=True,
    scale=CLIP_SCALE,
    download_bytes=254_102_519 + 2_224_147,
)
SIGLIP2_TEXT = Text(
    source=_SIGLIP2.format("onnx/text_model_fp16.onnx"),
    tokenizer=_SIGLIP2.format("tokenizer.json"),
    sha256="711da56ada0a4aa11c7dd3320df741081a3cae4f0ae1b5e5c6d5b294738d0eb0",
    tokenizer_sha256="cb9140fae3ac5122c972d37adf83e1248471a38147ad76f8215c8872c6fd8322",
    output="pooler_output",
    length=64,
    pad=0,  # <pad>: the vector is that of the last place, so texts must be filled up
    end=1,  # <eos>
    lower=True,  # as in training; its tokenizer.json keeps the case
    label_prompt=_SIGLIP_PROMPT,
    scale=math.exp(4.724453449249268),
    bias=-16.771724700927734,
    download_bytes=564_862_230 + 34_363_039,
)
SIGLIP_TEXT = Text(
    source=_SIGLIP.format("onnx/text_model.onnx"),
    tokenizer=_SIGLIP.format("tokenizer.json"),
    sha256="3aa7fdbd20eaa8740cce17bf82913de641fcb632a768fed59f661cdcd0c32553",
    tokenizer_sha256="4a17c975210be5ab4c36b47d8dae4eefb866dbfb1e676e394aad85dc30a3ae08",
    output="pooler_output",
    length=64,
    pad=1,  # </s>, where SigLIP 2 has another token
    end=1,
    lower=True,
    label_prompt=_SIGLIP_PROMPT,
    download_bytes=441_332_132 + 2_398_744,
)

CLIP_256_TEXT = Text(
    source=_RCLIP.format("textual.onnx"),
    tokenizer=_LAION.format("tokenizer.json"),
    sha256="ee267cd64f0f77362670ae0140476ed51ee8c5a761d41636e09997f2fdddcacc",
    tokenizer_sha256="72ed5c96db5729294468543e4bc75fce14ca63f58e37300290189ba1c1e52b85",
    output="output",
    length=77,
    pad=0,  # OpenCLIP's; the graph reads its vector at the highest token, which is the end
    end=49407,
    lower=True,
    scale=CLIP_SCALE,
    download_bytes=254_344_274 + 2_224_081,
)
JINA_TEXT = Text(
    source=_JINA.format("onnx/text_model.onnx"),
    tokenizer=_JINA.format("tokenizer.json"),
    sha256="d7b2e732e685dcaf5ca2a36e7f5d9169906859f4590766689dbf7b00b20da01b",
    tokenizer_sha256="b36ee0ed6d20d181de65ce729dea6169658a9cfa4dede6717ba9fa2e4fbd3bc7",
    output="text_embeds",
    length=512,
    lower=True,
    download_bytes=547_000_000,
)
NOMIC_TEXT = Text(
    source=_NOMIC.format("onnx/model.onnx"),
    tokenizer=_NOMIC.format("tokenizer.json"),
    sha256="147d5aa88c2101237358e17796cf3a227cead1ec304ec34b465bb08e9d952965",
    tokenizer_sha256="d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66",
    output="",
    length=2048,
    lower=True,
    pooled=True,
    centred=True,
    prompt="search_query: ",
    download_bytes=547_310_275 + 711_396,
)


def _lite(lite: efficientnet_lite.Lite) -> Model:
    mean, deviation = (efficientnet_lite.MEAN,) * 3, (efficientnet_lite.DEVIATION,) * 3
    shown = Preprocessing(lite.size, lite.crop, mean, deviation)
    return Model(lite.name, efficientnet_lite.DIMENSION, "Apache-2.0", 0, lite.package, shown, lite.sha256, lite.extra)


MODELS: tuple[Model, ...] = (
    _lite(efficientnet_lite.LITE0),
    _lite(efficientnet_lite.LITE2),
    Model("resnet18", 512, "Apache-2.0", 46_800_000, _RESNET18),
    Model("resnet50", 2048, "Apache-2.0", 102_000_000, _RESNET50),
    Model("dinov2-small", 384, "Apache-2.0", 88_500_000, _DINO, sha256=_DINO_HASH),
    Model("clip-vit-b32", 512, "MIT", 351_686_194, _CLIP_VISION, _CLIP, _CLIP_HASH, text=CLIP_TEXT),
    Model(
        "siglip2-b16",
        768,
        "Apache-2.0",
        186_039_516,
        _SIGLIP2.format("onnx/vision_model_fp16.onnx"),
        Preprocessing(224, 1.0, _CENTRED, _CENTRED, "squash", "bilinear"),
        _SIGLIP2_HASH,
        text=SIGLIP2_TEXT,
    ),
    Model(
        "siglip-b16",
        768,
        "Apache-2.0",
        371_819_850,
        _SIGLIP.format("onnx/vision_model.onnx"),
        Preprocessing(224, 1.0, _CENTRED, _CENTRED, "squash", "bicubic"),
        _SIGLIP_HASH,
        text=SIGLIP_TEXT,
    ),
    Model(
        "clip-vit-b32-256",
        512,
        "MIT",
        351_826_068,
        _RCLIP.format("visual.onnx"),
        Preprocessing(256, 1.0, CLIP_MEAN, CLIP_DEVIATION),
        _RCLIP_HASH,
        text=CLIP_256_TEXT,
    ),
    Model(
        "jina-clip-v1",
        768,
        "Apache-2.0",
        344_000_000,
        _JINA.format("onnx/vision_model.onnx"),
        _CLIP,
        _JINA_HASH,
        text=JINA_TEXT,
    ),
    Model("nomic-v1.5", 768, "Apache-2.0", 374_000_000, _NOMIC_VISION, None, text=NOMIC_TEXT),
)
"""The names that `--model` accepts; the first is the default."""


def named(name: str) -> Model | None:
    """The known model of this name."""
    return next((model for model in MODELS if model.name == name), None)


def text_of_weights(*weights: str | None, commit: str | None = None) -> Text | None:
    """The text encoder of the known model with weights of one of these SHA-256; None if there is none.

    Models are known by their weights, whatever they are called: a copy of CLIP's file has CLIP's text encoder. If the
    SHA-256 of a model's weights is not known, `commit` tells: the one of the hub's repository that they come from.
    """
    for model in MODELS:
        if model.text and (model.sha256 in weights if model.sha256 else model.commit == commit):
            return model.text
    return None


def known_text(sha256: str, tokenizer_sha256: str) -> Text | None:
    """The known text encoder of these two files."""
    texts = (model.text for model in MODELS if model.text)
    return next((text for text in texts if (text.sha256, text.tokenizer_sha256) == (sha256, tokenizer_sha256)), None)
