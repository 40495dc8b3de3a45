"""Small nets of the kinds that people ship, for `tests.quantize.exports`; forward passes as exporters meet them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms


class Unet(nn.Module):
    """Two levels, skip connections, one upsampling by ConvTranspose and one by Resize."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first, self.second, self.third = _block(3, width), _block(width, 2 * width), _block(2 * width, 4 * width)
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.fourth, self.fifth = _block(4 * width, 2 * width), _block(3 * width, width)
        self.last = nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.first(x)
        two = self.second(F.max_pool2d(one, 2))
        three = self.up(self.third(F.max_pool2d(two, 2)))
        four = self.fourth(torch.cat([three, two], 1))
        wide = F.interpolate(four, scale_factor=2, mode="bilinear", align_corners=False)
        return self.last(self.fifth(torch.cat([wide, one], 1)))


class Yolo(nn.Module):
    """A CSP body in SiLU and a head that decodes boxes from two strides."""

    def __init__(self, width: int = 32, classes: int = 8) -> None:
        super().__init__()
        self.stem, self.down = _silu(3, width, 2), _silu(width, 2 * width, 2)
        self.split = _silu(2 * width, 2 * width, 1, 1)
        self.inner = nn.Sequential(_silu(width, width, 1), _silu(width, width, 1))
        self.join, self.deep = _silu(3 * width, 2 * width, 1, 1), _silu(2 * width, 4 * width, 2)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.spp, self.up = _silu(16 * width, 4 * width, 1, 1), _silu(6 * width, 2 * width, 1)
        self.heads = nn.ModuleList([nn.Conv2d(2 * width, 4 + classes, 1), nn.Conv2d(4 * width, 4 + classes, 1)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.down(self.stem(x))
        one, two = self.split(x).chunk(2, 1)
        fine = self.join(torch.cat([one, two, two + self.inner(two)], 1))
        deep = self.deep(fine)
        pools = [deep]
        for _ in range(3):
            pools.append(self.pool(pools[-1]))
        deep = self.spp(torch.cat(pools, 1))
        fine = self.up(torch.cat([F.interpolate(deep, scale_factor=2.0), fine], 1))
        found = [
            self.decoded(head(level), step) for head, level, step in zip(self.heads, (fine, deep), (4, 8), strict=True)
        ]
        whole = torch.cat(found, 1)
        return whole[..., :4], whole[..., 4:]

    def decoded(self, raw: Tensor, stride: int) -> Tensor:
        height, width = raw.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        grid = torch.stack([columns, rows]).float()
        centre, size, scores = raw[:, :2].sigmoid() * 2 - 0.5 + grid, raw[:, 2:4].sigmoid() * 4, raw[:, 4:].sigmoid()
        boxes = torch.cat([centre - size / 2, centre + size / 2], 1) * stride
        return torch.cat([boxes, scores], 1).flatten(2).transpose(1, 2)


class YoloNms(Yolo):
    """The same with the suppression in the graph; what comes out has a size of its own in each run."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = super().forward(x)
        best, label = scores[0].max(1)
        kept = nms(boxes[0], best, 0.5)[:20]
        return boxes[0][kept], label[kept]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor | None = None, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q, k, v = (self._split(one(x)) for one in (self.q, self.k, self.v))
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        score = q @ k.transpose(-1, -2) / (q.shape[-1] ** 0.5)
        if self.causal:
            rows, columns = score.shape[-2:]
            score = score.masked_fill(torch.ones(rows, columns).triu(columns - rows + 1).bool(), float("-inf"))
        score = score if mask is None else score + mask
        found = (score.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return self.o(found), torch.stack([k, v])

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool = False, first: bool = False) -> None:
        super().__init__()
        self.attention, self.first = Attention(width, heads, causal), first
        self.one, self.two = nn.LayerNorm(width), nn.LayerNorm(width)
        self.wide, self.back = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        found, cache = self.attention(self.one(x) if self.first else x, mask, past)
        x = x + found if self.first else self.one(x + found)
        inner = self.back(F.gelu(self.wide(self.two(x) if self.first else x)))
        return (x + inner if self.first else self.two(x + inner)), cache


class Bert(nn.Module):
    """Three int64 inputs, a mask of 0 and 1 turned into 0 and the lowest float, pooling under the mask."""

    def __init__(self, width: int = 128, layers: int = 2) -> None:
        super().__init__()
        self.word, self.place, self.kind = nn.Embedding(2000, width), nn.Embedding(64, width), nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList([Layer(width, 4) for _ in range(layers)])
        self.head = nn.Linear(width, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.norm(self.word(input_ids) + self.place(places) + self.kind(token_type_ids))
        mask = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        for layer in self.layers:
            x, _ = layer(x, mask)
        share = attention_mask[..., None].float()
        return x, self.head((x * share).sum(1) / share.sum(1).clamp(min=1e-9))


class Gpt(nn.Module):
    """Causal, with a cache of keys and values in and out; the head is the embedding again."""

    def __init__(self, width: int = 128, layers: int = 2) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(1000, width), nn.Embedding(128, width)
        self.layers = nn.ModuleList([Layer(width, 4, causal=True, first=True) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, input_ids: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        start = past.shape[4]
        x = self.word(input_ids) + self.place(torch.arange(start, start + input_ids.shape[1]))
        caches = []
        for number, layer in enumerate(self.layers):
            x, cache = layer(x, None, past[number])
            caches.append(cache)
        return self.norm(x) @ self.word.weight.T, torch.stack(caches)


class Rms(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(1 + 0.1 * torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.gain


class Llama(nn.Module):
    """Root-mean-square norms, rotary places, gated feed-forward; a few input channels are outliers."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.word, self.one, self.two, self.last = nn.Embedding(1000, width), Rms(width), Rms(width), Rms(width)
        with torch.no_grad():
            self.one.gain[:3] *= 40
        self.qkv, self.o = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gate, self.up = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, 3 * width, bias=False)
        self.down, self.head = nn.Linear(3 * width, width, bias=False), nn.Linear(width, 1000, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.word(input_ids)
        q, k, v = self.qkv(self.one(x)).unflatten(2, (12, -1)).transpose(1, 2).chunk(3, 1)
        x = x + self.o((self._turned(q) @ self._turned(k).transpose(-1, -2) / 5.6).softmax(-1).matmul(v)
                       .transpose(1, 2).flatten(2))  # fmt: skip
        inner = self.two(x)
        x = x + self.down(F.silu(self.gate(inner)) * self.up(inner))
        return self.head(self.last(x))

    def _turned(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        angle = torch.arange(x.shape[2]).float()[:, None] * 10000 ** (-torch.arange(half).float() / half)
        return torch.cat([x[..., :half] * angle.cos() - x[..., half:] * angle.sin(),
                          x[..., half:] * angle.cos() + x[..., :half] * angle.sin()], -1)  # fmt: skip


class Whisper(nn.Module):
    """An encoder of mel frames: two Conv1d in GELU, then layers with the norm first."""

    def __init__(self, width: int = 128, layers: int = 2) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(80, width, 3, 1, 1), nn.Conv1d(width, width, 3, 2, 1)
        self.places = nn.Parameter(0.1 * torch.randn(100, width))
        self.layers = nn.ModuleList([Layer(width, 4, first=True) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, mel: Tensor) -> Tensor:
        x = F.gelu(self.two(F.gelu(self.one(mel)))).transpose(1, 2) + self.places
        for layer in self.layers:
            x, _ = layer(x)
        return self.norm(x)


class Recommender(nn.Module):
    """Several inputs of several types: two ids, a vector of numbers, an image."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(5000, 64), nn.Embedding(3000, 64)
        self.image = nn.Sequential(_block(3, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.top = nn.Sequential(nn.Linear(64 + 64 + 13 + 16, 256), nn.PReLU(), nn.Linear(256, 128), nn.ELU(),
                                 nn.Linear(128, 1))  # fmt: skip

    def forward(self, user: Tensor, item: Tensor, numbers: Tensor, image: Tensor) -> Tensor:
        found = [self.user(user).squeeze(1), self.item(item).squeeze(1), numbers, self.image(image)]
        return self.top(torch.cat(found, 1)).sigmoid()


class Recurrent(nn.Module):
    """A bidirectional LSTM over convolved frames, as in speech and text recognition."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(40, 64, 5, 2, 2)
        self.lstm, self.gru = nn.LSTM(64, 96, bidirectional=True), nn.GRU(192, 64)
        self.head = nn.Linear(64, 30)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x)).permute(2, 0, 1)
        return self.head(self.gru(self.lstm(x)[0])[0]).log_softmax(-1)


class Convnet(nn.Module):
    """Residual, with grouped and depthwise convolutions, PReLU, hard swish and squeeze-and-excitation."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem, self.one, self.two = _block(3, width, 2), _block(width, width), _block(width, 2 * width, 2)
        self.depth = nn.Sequential(nn.Conv2d(2 * width, 2 * width, 3, 1, 1, groups=2 * width), nn.PReLU(2 * width))
        self.point = nn.Sequential(nn.Conv2d(2 * width, 2 * width, 1, groups=4), nn.BatchNorm2d(2 * width),
                                   nn.Hardswish())  # fmt: skip
        self.down, self.back = nn.Conv2d(2 * width, width // 2, 1), nn.Conv2d(width // 2, 2 * width, 1)
        self.last = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.two(F.relu(x + self.one(x)))
        y = self.point(self.depth(x))
        y = y * F.hardsigmoid(self.back(F.relu(self.down(y.mean((2, 3), keepdim=True)))))
        return self.last(F.adaptive_avg_pool2d(x + y, 1).flatten(1))


class Volume(nn.Module):
    """Three spatial axes, an instance norm, a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv3d(1, 16, 3, 1, 1), nn.InstanceNorm3d(16, affine=True)
        self.two, self.up = nn.Conv3d(16, 32, 3, 2, 1), nn.ConvTranspose3d(32, 8, 2, 2)
        self.last = nn.Conv3d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.leaky_relu(self.up(F.relu(self.two(F.leaky_relu(self.norm(self.one(x))))))))


def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def _silu(before: int, after: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.SiLU())
