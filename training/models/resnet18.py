"""ResNet18 (He et al., 2016), for torchvision's weights."""

import keras
from keras import layers

from training.models.blocks import convolve, name_layer, pool_padded
from training.models.torchvision_weights import register_torchvision


def extract_features(colours: keras.KerasTensor) -> keras.KerasTensor:
    """Give the 512 feature maps of colours (batch, size, size, 3): (batch, size / 32, …, 512)."""
    x = convolve(colours, ("conv1", "bn1"), 64, 7, 2)
    x = pool_padded(x)
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        x = _add_block(x, f"layer{stage}.0", filters, stride=1 if stage == 1 else 2)
        x = _add_block(x, f"layer{stage}.1", filters)
    return x


def _add_block(x: keras.KerasTensor, name: str, filters: int, stride: int = 1) -> keras.KerasTensor:
    shortcut = x
    if stride > 1:
        names = (f"{name}.downsample.0", f"{name}.downsample.1")
        shortcut = convolve(x, names, filters, 1, stride, rectify=False)
    x = convolve(x, (f"{name}.conv1", f"{name}.bn1"), filters, 3, stride)
    x = convolve(x, (f"{name}.conv2", f"{name}.bn2"), filters, 3, rectify=False)
    x = layers.Add()([x, shortcut])
    return layers.ReLU(name=name_layer(f"{name}.relu"))(x)


register_torchvision(
    name="resnet18",
    title="ResNet18",
    extract=extract_features,
    published="resnet18-f37072fd.pth",
)
