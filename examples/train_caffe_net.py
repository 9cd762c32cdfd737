"""Train a network that a Caffe prototxt describes, with an explicit loop in the place of Caffe's solver file.

    python examples/train_caffe_net.py --data DIR --epochs 3

`minidl train --net examples/lenet.prototxt --dataset mnist` does the same and more.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

import minidl as torch
from minidl.data import MNIST, DataLoader, Normalize, find
from minidl.interop import from_prototxt
from minidl.optim import SGD

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--net", default=Path(__file__).with_name("lenet.prototxt"), help="(default: LeNet)")
parser.add_argument("--data", help="folder of MNIST (default: it is looked for)")
parser.add_argument("--epochs", type=int, default=1, help="(default: 1)")
parser.add_argument("--limit", type=int, help="use only so many images (default: all)")
args = parser.parse_args()

# network: the weights that the file's fillers draw, and the groups of its lr_mult and decay_mult
torch.manual_seed(0)
net = from_prototxt(args.net, "TRAIN")
print(net)
optimizer = SGD(net.parameter_groups(lr=0.01, weight_decay=5e-4), momentum=0.9)

# data
root = find("mnist", args.data)
if root is None:
    parser.exit(1, "MNIST was not found; `minidl data download mnist` fetches it\n")
train, test = MNIST(root, train=True), MNIST(root, train=False)
if args.limit:
    train, test = train.subset(range(args.limit)), test.subset(range(args.limit))
normalize = Normalize(train.mean, train.std)
batch_size = net.inputs["data"][0]
train_loader = DataLoader(train.with_transform(normalize), batch_size, shuffle=True, seed=0)

# train: the loss is an output of the network
for epoch in range(args.epochs):
    bar = tqdm(train_loader, desc=f"epoch {epoch + 1}/{args.epochs}", unit="batch", disable=None)
    for images, labels in bar:
        optimizer.zero_grad()
        loss = net(images, labels)["loss"]
        loss.backward()
        optimizer.step()
        bar.set_postfix_str(f"loss {loss.item():.3f}")

# test: the layers of phase TEST, with the weights just learned
tested = from_prototxt(args.net, "TEST")
tested.load_state_dict(net.state_dict())
with torch.no_grad():
    loader = DataLoader(test.with_transform(normalize), batch_size=100)
    correct = sum(tested(images, labels)["accuracy"].item() * len(labels) for images, labels in loader)
print(f"test accuracy: {100 * correct / len(test):.2f} %")
