"""GoogLeNet (Szegedy et al. 2015, arXiv 1409.4842) with batch norm, for 32 x 32 images."""

import torch
import torch.nn as nn


def conv_bn_relu(in_planes, out_planes, kernel_size, padding=0):
    return [nn.Conv2d(in_planes, out_planes, kernel_size, padding=padding), nn.BatchNorm2d(out_planes), nn.ReLU(True)]


class Inception(nn.Module):
    def __init__(self, in_planes, n1x1, n3x3red, n3x3, n5x5red, n5x5, pool_planes):
        super().__init__()
        # 1x1
        self.b1 = nn.Sequential(*conv_bn_relu(in_planes, n1x1, 1))
        # 1x1 -> 3x3
        self.b2 = nn.Sequential(*conv_bn_relu(in_planes, n3x3red, 1), *conv_bn_relu(n3x3red, n3x3, 3, 1))
        # 1x1 -> 3x3 -> 3x3, in place of 5x5
        self.b3 = nn.Sequential(
            *conv_bn_relu(in_planes, n5x5red, 1),
            *conv_bn_relu(n5x5red, n5x5, 3, 1),
            *conv_bn_relu(n5x5, n5x5, 3, 1),
        )
        # pool -> 1x1
        self.b4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *conv_bn_relu(in_planes, pool_planes, 1))

    def forward(self, x):
        y1 = self.b1(x)
        y2 = self.b2(x)
        y3 = self.b3(x)
        y4 = self.b4(x)
        return torch.cat([y1, y2, y3, y4], 1)


# name, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool; "M" is a max pooling
cfg = [
    ("a3", 64, 96, 128, 16, 32, 32),
    ("b3", 128, 128, 192, 32, 96, 64),
    "M",
    ("a4", 192, 96, 208, 16, 48, 64),
    ("b4", 160, 112, 224, 24, 64, 64),
    ("c4", 128, 128, 256, 24, 64, 64),
    ("d4", 112, 144, 288, 32, 64, 64),
    ("e4", 256, 160, 320, 32, 128, 128),
    "M",
    ("a5", 256, 160, 320, 32, 128, 128),
    ("b5", 384, 192, 384, 48, 128, 128),
]


class GoogLeNet(nn.Module):
    def __init__(self, cfg=cfg, stem=192, divide=1, num_classes=10):
        super().__init__()
        planes = stem // divide
        self.pre_layers = nn.Sequential(*conv_bn_relu(3, planes, 3, 1))
        self.blocks = []
        for entry in cfg:
            if entry == "M":
                self.blocks.append("maxpool")
                continue
            name, *widths = entry
            widths = [w // divide for w in widths]
            setattr(self, name, Inception(planes, *widths))
            self.blocks.append(name)
            planes = widths[0] + widths[2] + widths[4] + widths[5]
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.avgpool = nn.AvgPool2d(8, stride=1)
        self.linear = nn.Linear(planes, num_classes)

    def forward(self, x):
        out = self.pre_layers(x)
        for name in self.blocks:
            out = getattr(self, name)(out)
        out = self.avgpool(out)
        out = out.view(out.size(0), -1)
        return self.linear(out)


def test():
    net = GoogLeNet()
    y = net(torch.randn(1, 3, 32, 32))
    print(y.shape)
