"""Residual blocks with attention and splits: CBAM (arXiv 1807.06521), Res2Net (1904.01169), SKNet (1903.06586)."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class ChannelGate(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.max_pool = nn.AdaptiveMaxPool2d(1)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels // reduction, channels, 1, bias=False),
        )

    def forward(self, x):
        return x * torch.sigmoid(self.mlp(self.avg_pool(x)) + self.mlp(self.max_pool(x)))


class SpatialGate(nn.Module):
    def __init__(self, kernel_size=7):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x):
        avg_out = torch.mean(x, dim=1, keepdim=True)
        max_out, _ = torch.max(x, dim=1, keepdim=True)
        return x * self.conv(torch.cat((max_out, avg_out), dim=1)).sigmoid()


class CBAMBlock(nn.Module):
    def __init__(self, planes):
        super().__init__()
        self.conv = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(planes)
        self.channel = ChannelGate(planes)
        self.spatial = SpatialGate()

    def forward(self, x):
        out = self.spatial(self.channel(self.bn(self.conv(x))))
        return F.relu(out + x)


class Res2Block(nn.Module):
    def __init__(self, planes, scale=4):
        super().__init__()
        self.width = planes // scale
        self.nums = scale - 1
        self.convs = nn.ModuleList([nn.Conv2d(self.width, self.width, 3, 1, 1, bias=False) for _ in range(self.nums)])
        self.bns = nn.ModuleList([nn.BatchNorm2d(self.width) for _ in range(self.nums)])

    def forward(self, x):
        spx = torch.split(x, self.width, 1)
        for i in range(self.nums):
            sp = spx[i] if i == 0 else sp + spx[i]  # noqa: F821
            sp = self.convs[i](sp)
            sp = F.relu(self.bns[i](sp))
            out = sp if i == 0 else torch.cat((out, sp), 1)  # noqa: F821
        out = torch.cat((out, spx[self.nums]), 1)
        return out + x


class SKBlock(nn.Module):
    def __init__(self, planes, branches=2, groups=4, reduction=2):
        super().__init__()
        self.planes = planes
        self.convs = nn.ModuleList([])
        for i in range(branches):
            self.convs.append(
                nn.Sequential(
                    nn.Conv2d(planes, planes, 3, padding=1 + i, dilation=1 + i, groups=groups, bias=False),
                    nn.BatchNorm2d(planes),
                    nn.ReLU(inplace=False),
                )
            )
        self.fc = nn.Linear(planes, planes // reduction)
        self.fcs = nn.ModuleList([nn.Linear(planes // reduction, planes) for _ in range(branches)])
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        feas = torch.stack([conv(x) for conv in self.convs], dim=1)
        fea_u = torch.sum(feas, dim=1)
        fea_s = fea_u.mean(-1).mean(-1)
        fea_z = torch.tanh(self.fc(fea_s))
        vectors = torch.stack([fc(fea_z) for fc in self.fcs], 1)
        attention = self.softmax(vectors).unsqueeze(-1).unsqueeze(-1)
        return (feas * attention).sum(dim=1) + x


class AttentionNet(nn.Module):
    def __init__(self, width=64, blocks=(CBAMBlock, Res2Block, SKBlock), num_classes=10):
        super().__init__()
        self.stem = nn.Conv2d(3, width, (3, 3), padding="same")
        layers = []
        for block in blocks:
            layers += [block(width), nn.AvgPool2d(2)]
        self.layers = nn.Sequential(*layers)
        self.layers.add_module("asymmetric", nn.Conv2d(width, width, kernel_size=(1, 3), padding=(0, 1)))
        self.temperature = nn.Parameter(torch.ones(1) * 2)
        self.register_buffer("scale", torch.full((1, num_classes), 0.5))
        self.linear = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.layers(self.stem(x))
        x = x.flatten(2).max(dim=2)[0]
        return self.linear(x) / self.temperature * self.scale
