"""The usual next step: a PyTorch DataLoader whose workers decode while the main process runs the network."""

import torch
import torch_model
from common import Bench
from torch.utils.data import DataLoader, Dataset


class Pictures(Dataset):
    """The pictures of the list as tensors."""

    def __init__(self, paths: list[str], draft: bool) -> None:
        self.paths, self.draft = paths, draft

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch_model.transform(self.paths[number], self.draft)


bench = Bench(workers=2, threads=2, batch=32, channels_last=0, frozen=0, compiled=0, draft=0, bf16=0)
torch.set_num_threads(bench["threads"])
network = torch_model.load()
layout = torch.channels_last if bench["channels_last"] else torch.contiguous_format
network = network.to(memory_format=layout)
example = torch.zeros(bench["batch"], 3, 224, 224).to(memory_format=layout)
if bench["frozen"]:  # batch norms folded into the convolutions, and operators fused
    network = torch.jit.optimize_for_inference(torch.jit.trace(network, example))
if bench["compiled"]:
    network = torch.compile(network)
    with torch.inference_mode():  # compiles now, which takes a minute; a smaller last batch would compile again
        network(example)
loader = DataLoader(Pictures(bench.paths, bool(bench["draft"])), bench["batch"], num_workers=bench["workers"])
bench.start()
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bool(bench["bf16"])):
    vectors = torch.cat([network(batch.to(memory_format=layout)).float() for batch in loader])
bench.finish(vectors.numpy())
