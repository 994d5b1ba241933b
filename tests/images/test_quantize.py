"""INT8 and float16: how similar the vectors stay, what is refused, and where the models are kept."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import fanfold
from fanfold.core.database import open_table
from fanfold.errors import FanfoldError, RecipeMismatch, UsageError
from fanfold.images import Images
from fanfold.images.calibration import MODELS, calibrated, in_database
from fanfold.images.decode import View, decode
from fanfold.images.models import quantize
from fanfold.images.models.cache import cache_dir
from fanfold.images.models.model import ready
from fanfold.images.models.quantize import Quantized, cosines, scales
from fanfold.source import Source, open_source

SIDE = 32


@pytest.fixture(name="pictures", scope="module")
def _pictures(photos: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 crops of real photographs."""
    folder = tmp_path_factory.mktemp("pictures")
    names = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle_left", "retina")
    for number, name in enumerate(names * 4):
        photo = Image.open(photos[name]).convert("RGB")
        side, left, top = min(photo.size) // 2, 7 * number, 3 * number
        photo.crop((left, top, left + side, top + side)).resize((240, 240)).save(folder / f"{number:02d}.jpg")
    return folder


@pytest.fixture(name="lite0", scope="module")
def _lite0(pictures: Path) -> Quantized:
    """The default model in INT8."""
    return quantize.quantize(Images(), open_source(str(pictures)))


@pytest.fixture(name="small", scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of three convolutions, the last depthwise, as an ONNX file; its second has no bias."""
    random = np.random.default_rng(3)
    weights = {
        "w0": random.normal(size=(8, 3, 3, 3)) * 0.2,
        "b0": random.normal(size=8),
        "w1": random.normal(size=(6, 8, 1, 1)) * 0.4,
        "w2": random.normal(size=(6, 1, 3, 3)) * 0.4,
        "b2": random.normal(size=6),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["y0"], strides=[2, 2]),
        helper.make_node("Relu", ["y0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["y1"]),
        helper.make_node("Relu", ["y1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["y2"], group=6),
        helper.make_node("GlobalAveragePool", ["y2"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["vector"]),
    ]
    shape = ["n", 3, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    file = tmp_path_factory.mktemp("small") / "small.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    file.write_bytes(model.SerializeToString())
    return file


def shown(pictures: Path, size: int = 224) -> np.ndarray:
    """uint8[n, size, size, 3]: the pictures as the model's input."""
    found = np.empty((24, size, size, 3), np.uint8)
    for place, file in zip(found, sorted(pictures.iterdir()), strict=True):
        decode(file.read_bytes(), place, View(size, 0.875))
    return found


# -- quality --------------------------------------------------------------------------------------------------------


def test_default_model_stays_alike(lite0: Quantized) -> None:
    """The default model's INT8 vectors are close to those of float32, in less than a third of the bytes."""
    assert lite0.calibrated_on + lite0.held_back == 24
    assert lite0.mean_cosine > 0.994
    assert lite0.lowest_cosine > 0.98
    assert len(lite0.content) < Path(ready("efficientnet-lite0").file).stat().st_size / 3


def test_no_kernel_overflows(lite0: Quantized, pictures: Path) -> None:
    """This machine's INT8 kernels give the same results as a float computation of the same integers.

    Except for rounding; weights that use all steps give 0.88 if sums overflow.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    few = shown(pictures)[:4]
    vectors = [
        ort.InferenceSession(lite0.content, chosen, providers=["CPUExecutionProvider"]).run(None, {"pictures": few})[0]
        for chosen in (ort.SessionOptions(), options)
    ]
    assert cosines(*vectors).min() > 0.998


def test_scales_leave_no_room_for_overflow() -> None:
    """Two neighbours of the same sign never sum to more than 128 steps, and no weight is beyond 127."""
    weight = np.random.default_rng(0).normal(size=(16, 8, 3, 3)).astype(np.float32)
    steps = np.rint(weight / scales(weight).reshape(-1, 1, 1, 1))
    for order in (steps, steps.transpose(0, 2, 3, 1)):
        rows = order.reshape(len(order), -1, 2)
        assert np.maximum(rows, 0).sum(axis=2).max() <= 128
        assert np.maximum(-rows, 0).sum(axis=2).max() <= 128
    assert np.abs(steps).max() <= 127


def test_scales_are_finer_than_halving() -> None:
    """A channel with one large weight keeps all its steps, where halving would lose a bit; zeros are allowed."""
    weight = np.zeros((2, 4, 1, 1), np.float32)
    weight[0, :, 0, 0] = 1.0, -0.5, 0.1, 0.2
    assert scales(weight) == pytest.approx([1 / 127, 1 / 127])


def test_depthwise_weights_use_all_steps() -> None:
    """Depthwise kernels cannot overflow, so large neighbours keep all their steps."""
    assert scales(np.ones((3, 1, 3, 3), np.float32)) == pytest.approx([1 / 127] * 3)


def test_bias_keeps_means(small: Path, pictures: Path) -> None:
    """In a user's model, convolutions without a bias get one, an old opset is upgraded, and the vectors stay close."""
    made = quantize.quantize(Images(model=str(small)), open_source(str(pictures)), min_cosine=0.9)
    assert made.mean_cosine > 0.999
    graph = onnx.load_from_string(made.content).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("Conv") == 3
    assert "QuantizeLinear" in kinds


def test_the_same_sample_makes_the_same_model(small: Path, pictures: Path) -> None:
    """Quantizing is deterministic: two runs over one source give one file, and so one recipe."""
    job = Images(model=str(small))
    assert quantize.quantize(job, open_source(str(pictures)), 0.9) == quantize.quantize(
        job, open_source(str(pictures)), 0.9
    )


# -- refusals -------------------------------------------------------------------------------------------------------


def test_too_unlike_is_refused(small: Path, pictures: Path) -> None:
    """Vectors less similar than the user wants are refused, with the number and what to type."""
    with pytest.raises(UsageError, match=r"is (0\.99\d), below 1\. Use --precision fp32.*--min-cosine \1"):
        quantize.quantize(Images(model=str(small)), open_source(str(pictures)), min_cosine=1.0)


def test_too_few_pictures(small: Path, pictures: Path, tmp_path: Path) -> None:
    """Too few pictures are refused, with the number that is needed."""
    shutil.copy(pictures / "00.jpg", tmp_path)
    with pytest.raises(
        UsageError, match="at least 16 pictures to calibrate on, but only 1 of the 1 here could be read"
    ):
        quantize.quantize(Images(model=str(small)), open_source(str(tmp_path)))


def test_unreadable_pictures(small: Path, tmp_path: Path) -> None:
    """Pictures that cannot be read do not count, and the error has the last one's reason."""
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"only 0 of the 20 here could be read \(\d+\.jpg: not a picture"):
        quantize.quantize(Images(model=str(small)), open_source(str(tmp_path)))


def test_nothing_listed(small: Path, tmp_path: Path) -> None:
    """A folder without pictures is refused."""
    with pytest.raises(UsageError, match="only 0 of the 0 here could be read"):
        quantize.quantize(Images(model=str(small)), open_source(str(tmp_path)))


def test_a_model_without_convolutions(tmp_path: Path, pictures: Path) -> None:
    """INT8 is for convolutions; a model without any after the first is refused."""
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["pool"]), helper.make_node("Flatten", ["pool"], ["y"])]
    found = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])
    model = helper.make_model(
        helper.make_graph(nodes, "colour", [shape], found), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    (tmp_path / "colour.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="models with convolutions"):
        quantize.quantize(Images(model=str(tmp_path / "colour.onnx")), open_source(str(pictures)))


def test_uncalibrated(small: Path) -> None:
    """INT8 of a model that was never calibrated is refused, with the commands that calibrate it."""
    with pytest.raises(UsageError, match="fanfold images quantize"):
        Images(model=str(small), precision="int8").recipe()


def test_quantised_twice(small: Path, pictures: Path, tmp_path: Path) -> None:
    """A model that is INT8 already cannot be quantized again."""
    file = tmp_path / "again.onnx"
    file.write_bytes(quantize.quantize(Images(model=str(small)), open_source(str(pictures)), 0.9).content)
    with pytest.raises(UsageError, match="is already int8"):
        quantize.quantize(Images(model=str(file)), open_source(str(pictures)))


# -- in a database --------------------------------------------------------------------------------------------------


def embed(job: Images, source: Path, database: Path) -> Images:
    """Do what the command does; return the calibrated job."""
    job = calibrated(job, str(source), str(database), "images", 0.9)
    run = fanfold.run(job, source=str(source), database=str(database), workers=1)
    done = sum(outcome.ok for outcome in run)
    assert (run.report.ok, run.report.failed, run.report.lost) == (done, 0, 0)
    assert run.report.listed == run.report.unchanged + done == len(list(source.iterdir()))
    return job


def test_the_model_stays_with_the_table(small: Path, pictures: Path, tmp_path: Path) -> None:
    """A run keeps its calibrated model beside its table; a rerun and a moved database continue with it."""
    asked = Images(model=str(small), precision="int8")
    source, database = tmp_path / "source", tmp_path / "db"
    shutil.copytree(pictures, source)
    done = embed(asked, source, database)
    (file,) = (database / MODELS).iterdir()
    assert done.model == str(file)
    assert open_table(str(database)).count_rows() == 24

    Image.new("RGB", (64, 64), "red").save(source / "new.png")
    moved = database.rename(tmp_path / "moved")
    again = embed(asked, source, moved)
    assert again.model == str(moved / MODELS / file.name)
    assert again.recipe() == in_database(done, str(moved)).recipe()
    assert open_table(str(moved)).count_rows() == 25
    assert len(list((moved / MODELS).iterdir())) == 1


def test_precisions_do_not_mix(small: Path, pictures: Path, tmp_path: Path) -> None:
    """A table of float32 takes no INT8, and a table of INT8 no float32; nothing is calibrated for it."""
    plain = Images(model=str(small))
    embed(plain, pictures, tmp_path / "db")
    with pytest.raises(RecipeMismatch, match=r"precision fp32.*precision int8.*--table images_2"):
        calibrated(replace(plain, precision="int8"), str(pictures), str(tmp_path / "db"), "images")
    embed(replace(plain, precision="int8"), pictures, tmp_path / "other")
    with pytest.raises(RecipeMismatch, match="precision"):
        embed(plain, pictures, tmp_path / "other")


def test_nothing_is_calibrated_in_vain(small: Path, pictures: Path, tmp_path: Path) -> None:
    """An unreachable source or a table of something else is refused before a model is made or kept."""

    def refuse(job: Images, source: Source, database: str) -> Source:
        raise UsageError(f"{job.model} of {source.root} cannot be in {database}")

    asked, database = Images(model=str(small), precision="int8"), str(tmp_path / "db")
    with pytest.raises(UsageError, match=re.escape(f"{MODELS}/model.onnx of {pictures} cannot be in {database}")):
        calibrated(asked, str(pictures), database, "images", reach=refuse)
    assert not (tmp_path / "db").exists()
    lance.write_dataset(pa.table({"key": ["a"]}), f"{database}/images.lance")
    with pytest.raises(UsageError, match=r"not made by the job 'images'.*--table NAME"):
        calibrated(asked, str(pictures), database, "images")
    assert not (tmp_path / "db" / MODELS).exists()


def test_a_model_kept_elsewhere(small: Path, pictures: Path, tmp_path: Path) -> None:
    """A calibrated model can be kept in another folder, without making a database; a table's own model is preferred."""
    asked = Images(model=str(small), precision="int8")
    settled = calibrated(asked, str(pictures), str(tmp_path / "db"), "images", 0.9, folder=str(tmp_path / "other"))
    assert settled.recipe()["precision"] == "int8"
    assert Path(settled.model).parent == tmp_path / "other"
    assert not (tmp_path / "db").exists()
    done = embed(asked, pictures, tmp_path / "db")
    assert calibrated(asked, str(pictures), str(tmp_path / "db"), "images", folder=str(tmp_path / "third")) == done
    assert not (tmp_path / "third").exists()


def test_other_precisions_are_left_alone(tmp_path: Path) -> None:
    """Only INT8 needs calibration."""
    job = Images()
    assert calibrated(job, "nowhere", str(tmp_path), "images") is job


def test_a_model_by_its_url(
    small: Path, pictures: Path, tmp_path: Path, httpserver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model at a URL is downloaded once, has its file's recipe, and is downloaded again if the copy is damaged."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    made = quantize.quantize(Images(model=str(small)), open_source(str(pictures)), 0.9)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "int8.onnx").write_bytes(made.content)
    there = Images(model=f"{httpserver}/int8.onnx", precision="int8")
    (tmp_path / "int8.onnx").write_bytes(made.content)
    assert there.recipe() == Images(model=str(tmp_path / "int8.onnx")).recipe()
    (tmp_path / "served" / "int8.onnx").unlink()
    assert there.recipe()["precision"] == "int8"
    (kept,) = (cache_dir() / "models" / "fetched").iterdir()
    kept.write_bytes(b"damaged")
    with pytest.raises(FanfoldError, match=r"int8\.onnx"):
        there.recipe()


@pytest.fixture(name="httpserver")
def _httpserver(tmp_path: Path) -> "object":
    """The address of a web server for the folder `served` of the test."""
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_of_another_version(small: Path, pictures: Path, tmp_path: Path) -> None:
    """A quantized file whose facts this version cannot read is refused by name."""
    model = onnx.load_from_string(quantize.quantize(Images(model=str(small)), open_source(str(pictures)), 0.9).content)
    helper.set_model_props(model, {"fanfold.prepared": '{"dimensions": 3}'})
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match=r"odd\.onnx was made by another version"):
        Images(model=str(tmp_path / "odd.onnx")).recipe()


# -- float16 --------------------------------------------------------------------------------------------------------


def test_half_precision(small: Path, pictures: Path) -> None:
    """Float16 has the input and output of float32, nearly the same vectors, and a separate recipe."""
    whole, half = Images(model=str(small)), Images(model=str(small), precision="fp16")
    data = (pictures / "03.jpg").read_bytes()
    vectors = np.stack([job.embed_one(data) for job in (whole, half)])
    assert vectors.dtype == np.float32
    assert cosines(vectors[:1], vectors[1:])[0] > 0.9999
    assert not np.array_equal(*vectors)
    assert half.recipe() == whole.recipe() | {"precision": "fp16"}
