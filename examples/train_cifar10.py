"""Train a ResNet-20 on CIFAR-10 with an explicit loop, as one would in PyTorch; `minidl train` does the same and more.

    python examples/train_cifar10.py --data DIR --epochs 10

Without CIFAR-10 it trains on Shapes10, which is made from a seed.
"""

import argparse

from tqdm import tqdm

import minidl as torch
from minidl.data import CIFAR10, AlternatingFlip, Compose, DataLoader, Normalize, RandomCrop, Shapes10, find
from minidl.models import get_model
from minidl.nn import CrossEntropyLoss
from minidl.optim import SGD
from minidl.optim.lr_scheduler import OneCycleLR

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--data", help="folder of CIFAR-10 (default: it is looked for)")
parser.add_argument("--epochs", type=int, default=1, help="(default: 1; 10 give about 84 %%)")
parser.add_argument("--limit", type=int, help="use only so many images (default: all)")
args = parser.parse_args()

# data
root = find("cifar10", args.data)
train, test = (CIFAR10(root, train=part) if root else Shapes10(train=part) for part in (True, False))
print(f"training on {train}")
if args.limit:
    train, test = train.subset(range(args.limit)), test.subset(range(args.limit))
normalize = Normalize(train.mean, train.std)
augment = [RandomCrop(32, 2, "reflect"), AlternatingFlip()] if root else [RandomCrop(32, padding=2)]
train_loader = DataLoader(
    train.with_transform(Compose([*augment, normalize])), batch_size=128, shuffle=True, num_workers=1, seed=0
)
test_loader = DataLoader(test.with_transform(normalize), batch_size=500)

# model, loss, optimiser, schedule
torch.manual_seed(0)
model = get_model("resnet20")
criterion = CrossEntropyLoss(label_smoothing=0.1)
optimizer = SGD(model.parameters(), lr=0.4, momentum=0.9, weight_decay=5e-4, nesterov=True)
steps = args.epochs * len(train_loader)
scheduler = OneCycleLR(optimizer, 0.4, steps, pct_start=0.2, anneal_strategy="linear", cycle_momentum=False)

# train
for epoch in range(args.epochs):
    model.train()
    bar = tqdm(train_loader, desc=f"epoch {epoch + 1}/{args.epochs}", unit="batch", disable=None)
    for images, labels in bar:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        bar.set_postfix_str(f"loss {loss.item():.3f}")

# test
model.eval()
with torch.no_grad():
    correct = sum((model(images).argmax(1) == labels).array.sum() for images, labels in test_loader)
print(f"test accuracy: {100 * correct / len(test):.2f} %")
