"""The networks once more, in PyTorch, from the papers' tables; the names of parameters are the public ones.

Nothing here comes from minidl. `thin` divides the numbers of channels. ResNet and VGG have torchvision's names.
"""

import torch
from torch import nn

RESNETS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
VGGS = {
    "A": [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "A-LRN": [64, "L", "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "B": [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "C": [64, 64, "M", 128, 128, "M", 256, 256, -256, "M", 512, 512, -512, "M", 512, 512, -512, "M"],
    "D": [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"],
    "E": [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"],
}


class Padded(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.stride, self.low, self.high = stride, (after - before) // 2, (after - before + 1) // 2

    def forward(self, x):
        zeros = [x.new_zeros(x.shape[0], n, x.shape[2], x.shape[3]) for n in (self.low, self.high)]
        return torch.cat([zeros[0], x, zeros[1]], 1)[:, :, :: self.stride, :: self.stride]


class Block(nn.Module):
    """convolutions: (kernel, channels, stride) of each."""

    def __init__(self, before, convolutions, shortcut):
        super().__init__()
        self.count, after, stride, channels = len(convolutions), convolutions[-1][1], 1, before
        for i, (kernel, out, step) in enumerate(convolutions, start=1):
            setattr(self, f"conv{i}", nn.Conv2d(channels, out, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(out))
            channels, stride = out, stride * step
        differ = before != after or stride != 1
        self.plain = shortcut is None
        if shortcut == "C" or (differ and shortcut in ("B", "conv3x3")):
            kernel = 3 if shortcut == "conv3x3" else 1
            conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(after))
        else:
            self.downsample = Padded(before, after, stride) if differ and shortcut == "A" else nn.Identity()

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = torch.relu(y) if i < self.count else y
        return torch.relu(y if self.plain else y + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, depth, classes, channels=3, shortcut="B", stride_in_1x1=False, small_images=False, thin=1):
        super().__init__()
        stem, before = (3, 1, 1) if small_images else (7, 2, 3), 64 // thin
        self.conv1, self.bn1 = nn.Conv2d(channels, before, *stem, bias=False), nn.BatchNorm2d(before)
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, 2, 1)
        for number, blocks in enumerate(RESNETS[depth], start=1):
            width, stage = 64 // thin * 2 ** (number - 1), []
            for i in range(blocks):
                s = 2 if number > 1 and i == 0 else 1
                if depth < 50:
                    convolutions = [(3, width, s), (3, width, 1)]
                elif stride_in_1x1:
                    convolutions = [(1, width, s), (3, width, 1), (1, 4 * width, 1)]
                else:
                    convolutions = [(1, width, 1), (3, width, s), (1, 4 * width, 1)]
                stage.append(Block(before, convolutions, shortcut))
                before = convolutions[-1][1]
            setattr(self, f"layer{number}", nn.Sequential(*stage))
        self.fc = nn.Linear(before, classes)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3)))


class ResNetCIFAR(nn.Module):
    def __init__(self, n, shortcut):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        before = 16
        for number, width in enumerate((16, 32, 64), start=1):
            stage = []
            for i in range(n):
                stage.append(Block(before, [(3, width, 2 if i == 0 and number > 1 else 1), (3, width, 1)], shortcut))
                before = width
            setattr(self, f"layer{number}", nn.Sequential(*stage))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x)))))).mean((2, 3)))


class VGG(nn.Module):
    """`hidden` None: the CIFAR network with a single linear layer."""

    def __init__(self, configuration, classes, batch_norm, hidden, thin=1):
        super().__init__()
        layers, before = [], 3
        for item in VGGS[configuration]:
            if item == "M":
                layers.append(nn.MaxPool2d(2, 2))
            elif item == "L":  # Krizhevsky et al. 2012: k = 2, n = 5, alpha = 1e-4 of the sum
                layers.append(nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0))
            else:
                kernel, out = (3, item // thin) if item > 0 else (1, -item // thin)
                layers.append(nn.Conv2d(before, out, kernel, padding=kernel // 2))
                layers += [nn.BatchNorm2d(out), nn.ReLU()] if batch_norm else [nn.ReLU()]
                before = out
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7 if hidden else 1)
        self.classifier = nn.Linear(before, classes)
        if hidden:
            self.classifier = nn.Sequential(
                *(nn.Linear(before * 49, hidden), nn.ReLU(), nn.Dropout(0)),
                *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0)),
                nn.Linear(hidden, classes),
            )

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class LeNet(nn.Module):
    """`mask` takes the place of drop-out: what the 1,024 hidden units are multiplied with."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 5, padding=2), nn.Conv2d(32, 64, 5, padding=2)
        self.fc1, self.fc2, self.mask = nn.Linear(7 * 7 * 64, 1024), nn.Linear(1024, 10), 1

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc2(torch.relu(self.fc1(x.reshape(-1, 7 * 7 * 64))) * self.mask)


class LeNetCaffe(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.ip1, self.ip2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv1(x), 2)
        x = nn.functional.max_pool2d(self.conv2(x), 2)
        return self.ip2(torch.relu(self.ip1(torch.flatten(x, 1))))
