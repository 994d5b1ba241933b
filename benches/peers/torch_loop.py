"""The article's loop: one picture at a time through PyTorch, with PyTorch's own threads."""

import torch
import torch_model
from common import Bench

bench = Bench(threads=2)
torch.set_num_threads(bench["threads"])
network = torch_model.load()
bench.start()
with torch.inference_mode():
    vectors = [network(torch_model.transform(path)[None])[0].numpy() for path in bench.paths]
bench.finish(vectors)
