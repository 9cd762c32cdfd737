"""Deep layer aggregation (Yu et al. 2018, arXiv 1707.06484): blocks joined in trees; and a tree of two branches."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)

        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != self.expansion * planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, self.expansion * planes, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(self.expansion * planes),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        out = F.relu(out)
        return out


class Root(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size=1):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=1, padding=(kernel_size - 1) // 2, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, xs):
        x = torch.cat(xs, 1)
        out = F.relu(self.bn(self.conv(x)))
        return out


class SimpleTree(nn.Module):
    def __init__(self, block, in_channels, out_channels, level=1, stride=1):
        super().__init__()
        self.root = Root(2 * out_channels, out_channels)
        if level == 1:
            self.left_tree = block(in_channels, out_channels, stride=stride)
            self.right_tree = block(out_channels, out_channels, stride=1)
        else:
            self.left_tree = SimpleTree(block, in_channels, out_channels, level=level - 1, stride=stride)
            self.right_tree = SimpleTree(block, out_channels, out_channels, level=level - 1, stride=1)

    def forward(self, x):
        out1 = self.left_tree(x)
        out2 = self.right_tree(out1)
        out = self.root([out1, out2])
        return out


class Tree(nn.Module):
    def __init__(self, block, in_channels, out_channels, level=1, stride=1):
        super().__init__()
        self.level = level
        if level == 1:
            self.root = Root(2 * out_channels, out_channels)
            self.left_node = block(in_channels, out_channels, stride=stride)
            self.right_node = block(out_channels, out_channels, stride=1)
        else:
            self.root = Root((level + 2) * out_channels, out_channels)
            self.prev_root = block(in_channels, out_channels, stride=stride)
            for i in reversed(range(1, level)):
                self.__setattr__(f"level_{i}", Tree(block, in_channels, out_channels, level=i, stride=stride))
                in_channels, stride = out_channels, 1
            self.left_node = block(out_channels, out_channels, stride=1)
            self.right_node = block(out_channels, out_channels, stride=1)

    def forward(self, x):
        xs = [self.prev_root(x)] if self.level > 1 else []
        for i in reversed(range(1, self.level)):
            level_i = self.__getattr__(f"level_{i}")
            x = level_i(x)
            xs.append(x)
        x = self.left_node(x)
        xs.append(x)
        x = self.right_node(x)
        xs.append(x)
        out = self.root(xs)
        return out


class DLA(nn.Module):
    def __init__(self, tree=Tree, block=BasicBlock, levels=(1, 2, 2, 1), width=16, num_classes=10):
        super().__init__()
        self.base = self._make_conv(3, width)
        self.layer1 = self._make_conv(width, width)
        self.layer2 = self._make_conv(width, 2 * width)
        self.layer3 = tree(block, 2 * width, 4 * width, level=levels[0], stride=1)
        self.layer4 = tree(block, 4 * width, 8 * width, level=levels[1], stride=2)
        self.layer5 = tree(block, 8 * width, 16 * width, level=levels[2], stride=2)
        self.layer6 = tree(block, 16 * width, 32 * width, level=levels[3], stride=2)
        self.linear = nn.Linear(32 * width, num_classes)

    @staticmethod
    def _make_conv(in_planes, planes):
        conv = nn.Conv2d(in_planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(planes), nn.ReLU(True))

    def forward(self, x):
        out = self.base(x)
        out = self.layer1(out)
        out = self.layer2(out)
        out = self.layer3(out)
        out = self.layer4(out)
        out = self.layer5(out)
        out = self.layer6(out)
        out = F.avg_pool2d(out, 4)
        out = out.view(out.size(0), -1)
        out = self.linear(out)
        return out


def SimpleDLA(width=16, levels=(1, 2, 2, 1)):
    return DLA(tree=SimpleTree, width=width, levels=levels)
