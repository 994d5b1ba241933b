"""ONNX Runtime and OpenVINO: the same vectors, by the one that is faster here."""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nursery
from commands import fanfold
from fanfold import open_table
from fanfold.errors import FanfoldError, UsageError
from fanfold.images import Images
from fanfold.images.models import engines, openvino
from fanfold.images.models.embedder import Embedder, Pixels
from fanfold.images.models.engines import Engine, candidates, fastest, opened, rates
from fanfold.images.models.model import Ready, probe, ready
from fanfold.images.models.quantize import cosines, quantize
from fanfold.source import open_source

LITE0 = ready("efficientnet-lite0")
PLAIN, SMALL, LARGE = Engine("onnxruntime", 2), Engine("openvino", 2), Engine("openvino", 8)


def photos(count: int) -> Pixels:
    """uint8[count, 224, 224, 3]: the probe, shifted, turned and made darker."""
    rolled = [np.roll(probe(224), 31 * number, axis=number % 2) for number in range(count)]
    return np.stack([(one // (1 + number % 3)).astype(np.uint8) for number, one in enumerate(rolled)])


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, pixels in enumerate(photos(18)):
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(name="cache")
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("batch", [2, 8])
def test_float32_is_the_same(batch: int) -> None:
    """In float32, OpenVINO's vectors are ONNX Runtime's, however many pictures come at a time."""
    pictures = photos(9)
    ours, embed = Embedder(LITE0.file)(pictures), openvino.OpenVino(LITE0.file, LITE0.size, batch, "fp32")
    for count in (1, 2, 3, 8, 9):
        theirs = embed(pictures[:count])
        assert theirs.shape == (count, 1280)
        assert theirs.dtype == np.float32
        assert cosines(theirs, ours[:count]).min() >= 0.99999


def test_vectors_are_not_written_over() -> None:
    """The vectors of a call stay as they are when the next call is made."""
    embed = openvino.OpenVino(LITE0.file, LITE0.size, 1, "fp32")
    first = embed(photos(2)[:1])
    before = first.copy()
    embed(photos(2)[1:])
    assert np.array_equal(first, before)


def test_ctrl_c_after_engines_were_closed() -> None:
    """A signal reaches Python, and is no segmentation fault, when OpenVINO has run models and is done with them."""
    program = f"""
import signal
from fanfold.images.models.openvino import OpenVino
running = [OpenVino({LITE0.file!r}, {LITE0.size}, 1, "fp32") for _ in range(2)]
while running:
    del running[0]
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("stopped")
"""
    done = nursery.run([sys.executable, "-c", program])
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


def test_bfloat16_where_the_processor_has_it() -> None:
    """bfloat16 gives similar vectors, but not the same; a processor without it is refused with what to use."""
    job = Images(precision="bf16")
    if openvino.has_bf16():
        vectors, whole = job.open()._embedder(photos(4)), Embedder(LITE0.file)(photos(4))
        assert 0.99 <= cosines(vectors, whole).min() < 0.999999
    else:
        with pytest.raises(FanfoldError, match=r"AVX512-BF16 or AMX-BF16.*--precision fp32"):
            job.open()


def test_bfloat16_without_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never computed slowly, by way of float32."""
    monkeypatch.setattr(openvino, "has_bf16", lambda: False)
    with pytest.raises(FanfoldError, match=r"AVX512-BF16 or AMX-BF16.*--precision fp32 or int8"):
        Images(precision="bf16").open()


def test_bfloat16_is_another_recipe() -> None:
    """Vectors of bfloat16 do not go into a table of float32; those of another engine do."""
    assert Images(precision="bf16").recipe() == {"precision": "bf16", **Images().recipe()}
    assert Images(engine="openvino").recipe() == Images(engine="onnxruntime").recipe() == Images().recipe()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "onnxruntime", "precision": "bf16"}, "Use engine openvino"),
        ({"engine": "openvino", "precision": "fp16"}, "use precision bf16"),
        ({"engine": "openvino", "provider": "cuda"}, "for the CPU, not for the provider 'cuda'"),
        ({"precision": "bf16", "provider": "coreml"}, "precision bf16 is for the CPU"),
        ({"engine": "torch"}, "engine must be one of auto, onnxruntime, openvino"),
    ],
)
def test_what_does_not_go_together(options: dict[str, str], words: str) -> None:
    """Options that exclude each other are refused with what to use."""
    with pytest.raises(UsageError, match=words):
        Images(**options)  # type: ignore[arg-type]


# -- the choice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "engine", "batch_size", "expected"),
    [
        ("fp32", "auto", None, [PLAIN, SMALL, LARGE]),
        ("fp32", "auto", 4, [Engine("onnxruntime", 4), Engine("openvino", 4)]),
        ("fp32", "onnxruntime", None, [PLAIN]),
        ("fp32", "openvino", None, [SMALL, LARGE]),
        ("int8", "auto", None, [PLAIN, SMALL, LARGE]),
        ("bf16", "auto", None, [SMALL, LARGE]),
        ("fp16", "auto", None, [PLAIN]),
    ],
)
def test_candidates(precision: str, engine: str, batch_size: int | None, expected: list[Engine]) -> None:
    """What may run a model depends on its precision and on what was asked for."""
    assert candidates(replace(LITE0, precision=precision), engine, batch_size) == expected


def test_a_model_of_a_fixed_number_of_pictures() -> None:
    """Both engines keep to the number of pictures that a graph takes."""
    assert candidates(replace(LITE0, batch=3), "auto", None) == [PLAIN, Engine("openvino", 3)]


def test_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed, auto is ONNX Runtime, without a measurement; asking for OpenVINO says what to type."""
    monkeypatch.setattr(engines, "is_installed", lambda: False)
    monkeypatch.setattr(openvino, "is_installed", lambda: False)
    monkeypatch.setattr(openvino, "core", openvino.core.__wrapped__)  # not the one that another test has opened
    monkeypatch.setattr(engines, "rates", None)
    assert fastest(LITE0, candidates(LITE0, "auto", None)) == PLAIN
    with pytest.raises(FanfoldError, match=r"pip install 'fanfold\[openvino\]'"):
        opened(LITE0, "openvino", 2)


@pytest.mark.parametrize(
    ("measured", "best"),
    [
        ([100, 114, 90], PLAIN),
        ([100, 120, 90], SMALL),
        ([100, 120, 130], LARGE),
        ([100, 0, 0], PLAIN),
        ([0, 5, 4], SMALL),
    ],
)
def test_the_faster_one(measured: list[float], best: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fastest is taken, but the usual one unless another is faster by more than noise."""
    among = [PLAIN, SMALL, LARGE]
    monkeypatch.setattr(engines, "rates", lambda *_: dict(zip(among, measured, strict=True)))
    assert fastest(LITE0, among) == best


def test_measured_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first worker measures; the next ones read what it found. A damaged file is measured again."""
    monkeypatch.setattr(engines, "_SECONDS", 0.01)
    among = [PLAIN, SMALL]
    first = rates(LITE0, among)
    assert all(rate > 0 for rate in first.values())
    (kept,) = (cache / "engines").glob("*.json")
    assert json.loads(kept.read_text()) == {str(engine): round(rate, 2) for engine, rate in first.items()}
    kept.write_text('{"onnxruntime, 2 at a time": 7, "openvino, 2 at a time": 9}')
    assert rates(LITE0, among) == {PLAIN: 7, SMALL: 9}
    kept.unlink()
    rates(LITE0, among[:1])
    (kept,) = (cache / "engines").glob("*.json")
    for damage in ("", "[1]", '{"a": 1}', '{"a": "x", "b": 2}'):
        kept.write_text(damage)
        assert rates(LITE0, among[:1])[PLAIN] > 9


@pytest.mark.usefixtures("cache")
def test_workers_that_start_together_measure_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one measures, the others wait for its numbers, so that all choose the same engine."""
    numbers = iter(range(1, 99))

    def measured(_: Ready, among: list[Engine]) -> dict[Engine, float]:
        time.sleep(0.05)
        return {engine: next(numbers) for engine in among}

    monkeypatch.setattr(engines, "_measured", measured)
    with ThreadPoolExecutor(4) as workers:
        found = list(workers.map(lambda _: rates(LITE0, [PLAIN, SMALL]), range(4)))
    assert found == [{PLAIN: 1, SMALL: 2}] * 4


def test_a_cache_that_cannot_be_written(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement counts although it cannot be kept."""
    monkeypatch.setattr(engines, "_SECONDS", 0.01)
    cache.mkdir()
    (cache / "engines").write_text("a file where a folder should be")
    assert rates(LITE0, [PLAIN, SMALL])[SMALL] > 0


def test_an_engine_that_cannot_run_the_model(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not chosen, and asking for it says why it cannot."""
    monkeypatch.setattr(engines, "_SECONDS", 0.01)
    broken = replace(LITE0, size=7)  # the graph takes no such pictures
    monkeypatch.setattr(engines, "probe", lambda _: probe(224))
    assert rates(broken, [PLAIN, SMALL])[SMALL] == 0
    with pytest.raises(FanfoldError, match=r"OpenVINO cannot run the model.*--engine onnxruntime"):
        openvino.OpenVino(LITE0.file, 7, 2, "fp32")
    assert cache.is_dir()


def test_wrong_vectors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO's vector of the probe is compared with ONNX Runtime's before anything is embedded."""
    monkeypatch.setattr(openvino.OpenVino, "_run", lambda _, pictures: np.ones((len(pictures), 1280), np.float32))
    with pytest.raises(FanfoldError, match=r"OpenVINO gives different vectors than ONNX Runtime.*--engine onnxruntime"):
        opened(LITE0, "openvino", 2)


# -- the command -----------------------------------------------------------------------------------------------------


def test_engines_take_turns_on_a_table(folder: Path, tmp_path: Path) -> None:
    """A table that one engine began is continued by the other, and its vectors are those of one engine."""
    command = ("images", "embed", folder, tmp_path / "db", "--workers", 1, "--engine")
    assert fanfold(*command, "onnxruntime").returncode == 0
    first = open_table(str(tmp_path / "db"), "images").to_table().sort_by("key")
    for file in sorted(folder.iterdir())[9:]:
        file.write_bytes(file.read_bytes() + b"\0")  # another version of the same picture
    done = fanfold(*command, "openvino")
    assert done.returncode == 0, done.stderr
    second = open_table(str(tmp_path / "db"), "images").to_table().sort_by("key")
    assert (np.array(first["version"]) != np.array(second["version"])).sum() == 9
    matrix = [np.stack(table["vector"].to_numpy()) for table in (first, second)]
    assert cosines(*matrix).min() >= 0.99999


def test_int8_by_openvino(folder: Path, tmp_path: Path) -> None:
    """A quantised model gives similar vectors by both engines, and cannot be made bfloat16 as well."""
    made = quantize(Images(), open_source(str(folder)), 0.5)
    file = tmp_path / "int8.onnx"
    file.write_bytes(made.content)
    small: Ready = ready(str(file))
    with pytest.raises(UsageError, match=r"is already int8\. Use it without --precision bf16"):
        ready(str(file), "bf16")
    theirs: Callable[[Pixels], np.ndarray] = openvino.OpenVino(small.file, small.size, 8, small.precision)
    assert cosines(theirs(photos(8)), Embedder(small.file)(photos(8))).min() >= 0.98
