"""The four architectures: small versions of what people ship, each with the structure that makes its family hard.

All take `image`, float32 (batch, 1, 28, 28) with values in 0..1, and return `logits`, float32 (batch, 10).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

CLASSES = 10
TOKENS = 49  # patches of 4x4 pixels in an image of 28x28


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without bias that keeps the size (divided by `stride`), then batch normalization."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity or a 1x1 projection (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_bn(inputs, outputs, stride=stride)
        self.conv2 = conv_bn(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, kernel=1, stride=stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu(self.conv1(x))
        return self.relu(self.conv2(hidden) + self.shortcut(x))


class ResidualCNN(nn.Module):
    """Three stages of residual blocks at 28, 14 and 7 pixels: 13 convolutions, two of them projections."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(1, 24), nn.ReLU())
        self.stage1 = nn.Sequential(ResidualBlock(24, 24))
        self.stage2 = nn.Sequential(ResidualBlock(24, 48, stride=2), ResidualBlock(48, 48))
        self.stage3 = nn.Sequential(ResidualBlock(48, 80, stride=2), ResidualBlock(80, 80))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(80, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return self.classifier(self.pool(x).flatten(1))


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from all channel means (Hu et al. 2018, arXiv 1709.01507)."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, channels // reduction, 1)
        self.relu = nn.ReLU()
        self.expand = nn.Conv2d(channels // reduction, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.relu(self.reduce(self.pool(x)))))


class InvertedResidual(nn.Module):
    """Expand, depthwise, squeeze-excite, project, with a skip where shapes allow (MobileNetV3, arXiv 1905.02244)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.expand = nn.Sequential(conv_bn(inputs, hidden, kernel=1), nn.Hardswish())
        self.depthwise = nn.Sequential(conv_bn(hidden, hidden, kernel, stride, groups=hidden), nn.Hardswish())
        self.squeeze_excite = SqueezeExcite(hidden)
        self.project = conv_bn(hidden, outputs, kernel=1)
        self.skip = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        return x + hidden if self.skip else hidden


class DepthwiseCNN(nn.Module):
    """Six inverted residual blocks, three of them with a skip; two use 5x5 depthwise kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(1, 16), nn.Hardswish())
        self.blocks = nn.Sequential(
            InvertedResidual(16, 48, 24, stride=2),
            InvertedResidual(24, 96, 24),
            InvertedResidual(24, 96, 40, kernel=5, stride=2),
            InvertedResidual(40, 160, 40, kernel=5),
            InvertedResidual(40, 160, 64),
            InvertedResidual(64, 256, 64),
        )
        self.head = nn.Sequential(conv_bn(64, 192, kernel=1), nn.Hardswish())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(192, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.head(self.blocks(self.stem(x)))).flatten(1))


class SelfAttention(nn.Module):
    """Multi-head attention in plain matrix products, with separate query, key and value projections."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        """(batch, TOKENS, width) to (batch, heads, TOKENS, head width)."""
        return x.reshape(-1, TOKENS, self.heads, self.head_width).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        weights = torch.softmax(query @ key.transpose(2, 3) * self.head_width**-0.5, dim=-1)
        mixed = (weights @ value).transpose(1, 2)
        return self.output(mixed.reshape(-1, TOKENS, self.heads * self.head_width))


class EncoderLayer(nn.Module):
    """A pre-norm transformer layer: attention and a two-layer GELU perceptron, each with a skip."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Four layers of width 64 with 4 heads over 49 patches of 4x4 pixels (arXiv 2010.11929), averaged at the end."""

    def __init__(self, width: int = 64, heads: int = 4, layers: int = 4) -> None:
        super().__init__()
        self.width = width
        self.patches = nn.Conv2d(1, width, kernel_size=4, stride=4)
        self.position = nn.Parameter(0.02 * torch.randn(1, TOKENS, width))
        self.layers = nn.Sequential(*(EncoderLayer(width, heads, expansion=4) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x)
        tokens = patches.reshape(-1, self.width, TOKENS).transpose(1, 2) + self.position
        return self.classifier(self.norm(self.layers(tokens)).mean(dim=1))


class RowGRU(nn.Module):
    """Two GRU layers that read the image row by row; the last state is classified."""

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size=28, hidden_size=hidden, num_layers=2)
        self.classifier = nn.Linear(hidden, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.squeeze(1).transpose(0, 1)
        states, _ = self.gru(rows)
        return self.classifier(states[-1])


MODELS: dict[str, Callable[[], nn.Module]] = {
    "residual_cnn": ResidualCNN,
    "depthwise_cnn": DepthwiseCNN,
    "vision_transformer": VisionTransformer,
    "gru": RowGRU,
}
