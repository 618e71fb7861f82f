"""Residual networks with the stem for small images: one 3x3 convolution, no pooling before the blocks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

NUMBERS_IN_A_VECTOR = 16
"""Of float32, with AVX-512."""


class Projection(nn.Conv2d):
    """A strided 1x1 convolution without bias, whose gradient is right for few planes too.

    Of few planes the pixels that it looks at are taken beforehand, which is the same function. oneDNN 3.12, by which
    PyTorch 2.13 convolves, otherwise computes wrong gradients of the weights, and writes over memory of others, where
    images are in channels-last order: with AVX2 below 8 planes, with AVX-512 below 16 where threads share an image.
    When the oldest PyTorch that is supported has an oneDNN without that, a plain convolution will do.
    Source: uxlfoundation/oneDNN#6035.
    """

    def __init__(self, in_planes: int, planes: int, *, stride: int) -> None:
        super().__init__(in_planes, planes, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_planes, H, W) -> (B, planes, H / stride, W / stride), rounded up."""
        if self.in_channels >= NUMBERS_IN_A_VECTOR:
            return super().forward(x)
        down, across = self.stride
        return F.conv2d(x[:, :, ::down, ::across], self.weight)


class Block(nn.Module):
    """Two 3x3 convolutions and the residual around them: relu(f(x) + shortcut(x)).

    The shortcut is the identity, or a strided 1x1 convolution where the shape changes.
    Source: He et al., 2016, arXiv:1512.03385, figure 2 and section 3.3 (option B).
    """

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)  # modules, so that a probe can watch them
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut.append(Projection(in_planes, planes, stride=stride))
            self.shortcut.append(nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_planes, H, W) -> (B, planes, H / stride, W / stride)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        rectified: Tensor = self.relu2(out)
        return rectified


class ResNet(nn.Module):
    """Stem, four layers of blocks, and a linear classifier on the averaged last planes.

    Its children, in order, are the layer groups that the laboratory watches: stem, layer1 ... layer4, linear.

    Args:
        num_blocks: blocks in each of the four layers; (2, 2, 2, 2) is ResNet-18.
        num_classes: outputs.
        in_channels: planes of an image, 1 or 3.
        width: planes of the stem and of layer1; layers 2 to 4 have 2, 4 and 8 times as many.
    """

    def __init__(
        self,
        num_blocks: tuple[int, int, int, int],
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.layer1 = _layer(width, width, num_blocks[0], stride=1)
        self.layer2 = _layer(width, 2 * width, num_blocks[1], stride=2)
        self.layer3 = _layer(2 * width, 4 * width, num_blocks[2], stride=2)
        self.layer4 = _layer(4 * width, 8 * width, num_blocks[3], stride=2)
        self.linear = nn.Linear(8 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, num_classes) logits."""
        out = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(images)))))
        logits: Tensor = self.linear(out.mean(dim=(2, 3)))  # (B, 8 * width) -> (B, num_classes)
        return logits


def _layer(in_planes: int, planes: int, num_blocks: int, *, stride: int) -> nn.Sequential:
    blocks = [Block(in_planes, planes, stride)]
    blocks += [Block(planes, planes, 1) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)


def resnet18(*, num_classes: int, in_channels: int = 3, width: int = 64) -> ResNet:
    """ResNet-18 for small images: 11,173,962 parameters at width 64, three channels and ten classes."""
    return ResNet((2, 2, 2, 2), num_classes=num_classes, in_channels=in_channels, width=width)


def resnet34(*, num_classes: int, in_channels: int = 3, width: int = 64) -> ResNet:
    """ResNet-34 for small images: 21,282,122 parameters at width 64, three channels and ten classes."""
    return ResNet((3, 4, 6, 3), num_classes=num_classes, in_channels=in_channels, width=width)
