"""MobileNetV3 (Howard et al. 2019, arXiv 1905.02244), for 32 x 32 images, its nonlinearities written both ways."""

import torch.nn as nn
import torch.nn.functional as F


class hswish(nn.Module):
    def forward(self, x):
        return x * F.relu6(x + 3, inplace=True) / 6


class hsigmoid(nn.Module):
    def forward(self, x):
        return F.relu6(x + 3, inplace=True) / 6


class SeModule(nn.Module):
    def __init__(self, in_size, reduction=4, by_hand=True):
        super().__init__()
        expand_size = max(in_size // reduction, 8)
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_size, expand_size, kernel_size=1, bias=False),
            nn.BatchNorm2d(expand_size),
            nn.ReLU(inplace=True),
            nn.Conv2d(expand_size, in_size, kernel_size=1, bias=False),
            hsigmoid() if by_hand else nn.Hardsigmoid(inplace=True),
        )

    def forward(self, x):
        return x * self.se(x)


class Block(nn.Module):
    """expand + depthwise + pointwise"""

    def __init__(self, kernel_size, in_size, expand_size, out_size, act, se, stride):
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(in_size, expand_size, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(expand_size)
        self.act1 = act()
        self.conv2 = nn.Conv2d(
            expand_size, expand_size, kernel_size, stride, padding=kernel_size // 2, groups=expand_size, bias=False
        )
        self.bn2 = nn.BatchNorm2d(expand_size)
        self.act2 = act()
        self.se = SeModule(expand_size, by_hand=act is hswish) if se else nn.Identity()
        self.conv3 = nn.Conv2d(expand_size, out_size, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_size)

        self.skip = None
        if stride == 1 and in_size != out_size:
            self.skip = nn.Sequential(nn.Conv2d(in_size, out_size, kernel_size=1, bias=False), nn.BatchNorm2d(out_size))

    def forward(self, x):
        skip = x
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.act2(self.bn2(self.conv2(out)))
        out = self.se(out)
        out = self.bn3(self.conv3(out))
        if self.skip is not None:
            skip = self.skip(skip)
        return out + skip if self.stride == 1 else out


class MobileNetV3(nn.Module):
    # kernel, expanded, out, activation, squeeze-excitation, stride
    small = [
        (3, 16, 16, nn.ReLU, True, 2),
        (3, 72, 24, nn.ReLU, False, 2),
        (3, 88, 24, nn.ReLU, False, 1),
        (5, 96, 40, hswish, True, 2),
        (5, 240, 40, hswish, True, 1),
        (5, 240, 40, nn.Hardswish, True, 1),
        (5, 120, 48, nn.Hardswish, True, 1),
    ]

    def __init__(self, settings=small, stem=16, hidden=256, dropout=0.2, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), hswish())
        blocks = nn.ModuleList()
        for kernel_size, expanded, out, act, se, stride in settings:
            blocks.append(Block(kernel_size, stem, expanded, out, act, se, stride))
            stem = out
        self.blocks = blocks
        self.head = nn.ModuleDict(
            {"fc1": nn.Linear(stem, hidden), "bn": nn.BatchNorm1d(hidden), "fc2": nn.Linear(hidden, num_classes)}
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = x.mean(3).mean(2)
        x = F.hardswish(self.head["bn"](self.head["fc1"](x)))
        return self.head["fc2"](self.drop(x))
