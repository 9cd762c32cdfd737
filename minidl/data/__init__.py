"""Datasets, augmentation of whole batches, and the loader that feeds them to a network."""

from minidl.data.catalog import DATASETS, available, find
from minidl.data.cifar10 import CIFAR10
from minidl.data.dataset import ArrayDataset, Dataset
from minidl.data.download import DownloadError, cache_folder, download
from minidl.data.loader import DataLoader, default_collate
from minidl.data.mnist import MNIST
from minidl.data.shapes import Shapes10
from minidl.data.transforms import AlternatingFlip, Compose, Normalize, RandomCrop, RandomHorizontalFlip

__all__ = [
    "AlternatingFlip",
    "CIFAR10",
    "DATASETS",
    "MNIST",
    "ArrayDataset",
    "Compose",
    "DataLoader",
    "Dataset",
    "DownloadError",
    "Normalize",
    "RandomCrop",
    "RandomHorizontalFlip",
    "Shapes10",
    "available",
    "cache_folder",
    "default_collate",
    "download",
    "find",
]
