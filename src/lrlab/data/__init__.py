"""Images in memory as bytes, from wherever they come, and batches of them as a function of the step."""

from lrlab.data.augment import Augmentation
from lrlab.data.batches import Batch, Batches, evaluation_batches, normalise
from lrlab.data.cifar import (
    CIFAR10,
    CIFAR100,
    CifarArchive,
    RecordFile,
    cache_directory,
    check_cifar,
    fetch_cifar,
    load_cifar,
)
from lrlab.data.corruptions import CORRUPTIONS, STRENGTHS, corrupt, shifted
from lrlab.data.decode import read_image
from lrlab.data.digits import load_digits_data
from lrlab.data.folder import images_in, load_folder
from lrlab.data.images import DataError, ImageData, Split, image_data, set_aside, summary
from lrlab.data.randomness import order

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "CORRUPTIONS",
    "STRENGTHS",
    "Augmentation",
    "Batch",
    "Batches",
    "CifarArchive",
    "DataError",
    "ImageData",
    "RecordFile",
    "Split",
    "cache_directory",
    "check_cifar",
    "corrupt",
    "evaluation_batches",
    "fetch_cifar",
    "image_data",
    "images_in",
    "load_cifar",
    "load_digits_data",
    "load_folder",
    "normalise",
    "order",
    "read_image",
    "set_aside",
    "shifted",
    "summary",
]
