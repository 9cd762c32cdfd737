"""The loop of a CIFAR training script: SGD, a schedule, loss and accuracy of each epoch."""

import torch
import torch.nn as nn
import torch.optim as optim

device = "cuda" if torch.cuda.is_available() else "cpu"


class AverageMeter:
    def __init__(self):
        self.sum = 0.0
        self.count = 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / self.count


def accuracy(output, target, topk=(1,)):
    """Computes the precision@k for the specified values of k"""
    maxk = max(topk)
    batch_size = target.size(0)
    _, pred = output.topk(maxk, 1, True, True)
    pred = pred.t()
    correct = pred.eq(target.view(1, -1).expand_as(pred))
    res = []
    for k in topk:
        correct_k = correct[:k].reshape(-1).float().sum(0)
        res.append(correct_k.mul_(100.0 / batch_size).item())
    return res


def train(net, loader, criterion, optimizer):
    net.train()
    losses = AverageMeter()
    correct = 0
    total = 0
    for _, (inputs, targets) in enumerate(loader):
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()

        losses.update(loss.item(), inputs.size(0))
        _, predicted = outputs.max(1)
        total += targets.size(0)
        correct += predicted.eq(targets).sum().item()
    return losses.avg, correct / total


def test(net, loader, criterion):
    net.eval()
    losses = AverageMeter()
    top1, top5 = AverageMeter(), AverageMeter()
    with torch.no_grad():
        for inputs, targets in loader:
            outputs = net(inputs)
            losses.update(criterion(outputs, targets).item(), targets.size(0))
            prec1, prec5 = accuracy(outputs.data, targets, topk=(1, 5))
            top1.update(prec1, targets.size(0))
            top5.update(prec5, targets.size(0))
    return losses.avg, top1.avg, top5.avg


def main(net, loader, epochs):
    net = net.to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[epochs // 2], gamma=0.1)
    history = []
    for epoch in range(epochs):
        lr = optimizer.param_groups[0]["lr"]
        print(f"Epoch: {epoch} lr: {lr:.4f}")
        history.append((lr, *train(net, loader, criterion, optimizer), *test(net, loader, criterion)))
        scheduler.step()
    return history
