"""Image data sets: held in memory as they are stored, found by name under the data root or read from the user's own files."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from anyview.data.roots import data_root, place_of
from anyview.data.source import Batch, Epoch, Source, fingerprint
from anyview.data.splits import Split
from anyview.errors import UserError
from anyview.views.draws import derive_seed
from anyview.views.view import View
from anyview_images import readers
from anyview_images.corruptions import CORRUPTIONS
from anyview_images.pixels import as_float, as_stored
from anyview_images.readers import Raw

CLEAN_PIXELS = 2**23
"""Most pixels that one clean view holds: the first feature maps of a network take a hundred times as much memory."""
RAW_SIDE, POOLED_SIDE = 64, 32
"""Images with longer sides are averaged to the smaller one before their pixels serve as features."""


class ImageBatch(Batch):
    """A batch whose images are as they are stored until `to` moves them: they travel as uint8, and are floats in [0, 1] on the device."""

    def to(self, device: torch.device | str, **options: Any) -> Batch:
        moved = super().to(device, **options)
        return replace(moved, data=as_float(moved.data))


class ImageSource(Source):
    """Images in memory.

    images: (N, C, H, W), uint8 or float in [0, 1], kept in that type. labels: (N,) classes, words or numbers (negative ones and empty words
    are unlabelled), or (N, L) yes/no answers. ids: (N,) what the input calls them. published: the data set's own split; pre-training is
    then shown its training part alone, `train_rows`, while clean views, labels and features are of all N images. labelled: batches carry
    the labels, for methods that learn from them. notes: further facts for `describe`.

    An epoch is a fresh order of the training images in batches of equal size; what does not fill a last batch waits for the next epoch. A
    batch's index counts in all N. `corrupted` sources are those of the module corruptions. Raises UserError for a batch that ranks cannot
    share and for labels or ids of another length.

    >>> source = ImageSource(torch.zeros(10, 3, 8, 8, dtype=torch.uint8), [0, 1] * 5)
    >>> source.shape, source.steps(4), next(source.batches(Epoch(batch_size=4))).to("cpu").data.dtype
    ({'channels': 3, 'height': 8, 'width': 8}, 2, torch.float32)
    """

    corruptions = tuple(CORRUPTIONS)

    def __init__(
        self,
        images: Tensor,
        labels: Any = None,
        *,
        ids: Sequence[Any] | None = None,
        published: Split | None = None,
        name: str = "images",
        labelled: bool = False,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self.images, self.name, self.published, self.labelled, self.notes = images, name, published, labelled, notes or {}
        self.shape = dict(zip(("channels", "height", "width"), images.shape[1:], strict=True))
        self.labels = None if labels is None else class_numbers(labels, len(images), name)
        self.ids = None if ids is None else list(ids)
        if self.ids is not None and len(self.ids) != len(images):
            raise UserError(f"the ids of {name!r} are {len(self.ids)} and the images {len(images)}; give one for each image")
        self.train_rows = None if published is None else published.train
        self._shown = torch.arange(len(images)) if published is None else published.train

    def __len__(self) -> int:
        return len(self.images)

    def steps(self, batch_size: int | None) -> int:
        return len(self._shown) // self._rows(batch_size)

    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        total = self._rows(epoch.batch_size)
        if total < epoch.ranks:
            raise UserError(f"a batch of {total} images cannot be shared by {epoch.ranks} ranks; make it larger or use fewer devices")
        order = torch.Generator().manual_seed(derive_seed(epoch.seed, "order", epoch.number))
        rows = self._shown[torch.randperm(len(self._shown), generator=order)]
        own = epoch.own(total)
        for step in range(epoch.skip, self.steps(total)):
            index = rows[step * total : (step + 1) * total][own]
            labels = self.labels[index] if self.labelled and self.labels is not None else None
            yield ImageBatch(self.images[index], len(index), own.start, total, index=index, labels=labels)

    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        most = min(batch_size, max(1, CLEAN_PIXELS // (self.shape["height"] * self.shape["width"])))
        for index in torch.arange(len(self)).split(most):
            yield View(as_float(self.images[index]), role="clean", index=index)

    def features(self) -> np.ndarray:
        if max(self.shape["height"], self.shape["width"]) <= RAW_SIDE:
            return as_float(self.images).flatten(1).numpy()
        sides = (min(self.shape["height"], POOLED_SIDE), min(self.shape["width"], POOLED_SIDE))
        return torch.cat([adaptive_avg_pool2d(view.data, sides).flatten(1) for view in self.clean()]).numpy()

    def fingerprint(self) -> str:
        return fingerprint(self.images, self.labels, self._shown)

    def corrupted(self, name: str, severity: int, seed: int) -> Source:
        if name not in self.corruptions:
            return super().corrupted(name, severity, seed)
        generator = torch.Generator().manual_seed(derive_seed(seed, name, severity))
        parts = [CORRUPTIONS[name](view.data, severity, generator) for view in self.clean()]
        other = copy.copy(self)
        other.images = torch.cat([as_stored(part, self.images.dtype) for part in parts])
        other.name = f"{self.name}, {name} {severity}"
        return other

    def split(self, seed: int) -> Split:
        """The published split, else one drawn with the seed, by class."""
        return super().split(seed) if self.published is None else self.published

    def describe(self) -> dict[str, Any]:
        facts = super().describe()
        if self.labels is not None and self.labels.ndim == 1:
            facts["classes"] = len(self.labels[self.labels >= 0].unique())
        if self.published is not None:
            facts["split"] = self.published.name
            facts["pre-trained on"] = f"{len(self._shown)} training images"
        return {**facts, **self.notes}

    def _rows(self, batch_size: int | None) -> int:
        return min(batch_size or len(self._shown), len(self._shown))


def class_numbers(labels: Any, rows: int, name: str) -> Tensor:
    """Numbers 0 .. classes - 1 in the sorted order of the labels, (N,), -1 = unlabelled; several answers (N, L) as they are.

    >>> class_numbers(["cat", "", "ant"], 3, "pets").tolist()
    [1, -1, 0]
    """
    array = labels.numpy(force=True) if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim not in (1, 2) or len(array) != rows:
        raise UserError(f"the labels of {name!r} have the shape {array.shape}, and there are {rows} images; give one for each image")
    if array.dtype.kind not in "iubUS" and not (array.dtype.kind == "f" and np.isfinite(array).all()):
        raise UserError(f"the labels of {name!r} are of type {array.dtype}, or have gaps; give every image a class, as a number or a word")
    if array.ndim == 2:
        return torch.as_tensor(array)
    known = array != "" if array.dtype.kind in "US" else array >= 0
    numbers = np.full(rows, -1, dtype=np.int64)
    numbers[known] = np.unique(array[known], return_inverse=True)[1]
    return torch.from_numpy(numbers)


def open_images(data: str | Path | Source | Any, *, size: int = 224) -> Source:
    """The images that a user's `data` means.

    data: a source (returned as it is); an array or tensor of images; the path of a folder of pictures (a sub-folder per class, also below
    train, val and test), of a .npz file or of an idx file (idx3-ubyte, also .gz); the name of such a file or folder under the data root;
    the name of a registered data set ("digits", "mnist"). size: pixels of the sides that a folder's pictures are resized to. Raises
    UserError for what cannot be read.

    >>> open_images(np.zeros((10, 8, 8), dtype=np.uint8)).shape
    {'channels': 1, 'height': 8, 'width': 8}
    """
    if isinstance(data, Source):
        return data
    if not isinstance(data, str | Path):
        return ImageSource(readers.as_images(data, "array"))
    path = _find(data)
    if path is not None:
        read = as_source(_read(path, size), path.name.partition(".")[0])
        read.place = place_of(data, path)
        return read
    from anyview.plugins import host

    source = host().find("datasets", str(data), prefer="images").load()()
    if not {"channels", "height", "width"} <= source.shape.keys():
        raise UserError(f"the data set {source.name!r} has {source.shape}, and images were asked for; choose a set of images")
    return source


def as_source(raw: Raw, name: str, *, split_name: str = "published") -> ImageSource:
    """A source from what a reader found, with the split that the files make."""
    if raw.parts is None:
        return ImageSource(raw.images, raw.labels, ids=raw.ids, name=name)
    train, validation, test = (torch.tensor(list(raw.parts.get(part, ())), dtype=torch.long) for part in readers.PARTS)
    return ImageSource(raw.images, raw.labels, ids=raw.ids, name=name, published=Split(train, validation, test, name=split_name))


def _find(data: str | Path) -> Path | None:
    """The file or folder that a path or name means; None for the name of a registered data set, and for one that nobody knows."""
    from anyview.plugins import host

    if str(data) in {name for component in host().components("datasets") for name in (component.name, component.full_name)}:
        return None
    path = Path(data).expanduser()
    for place in (path, data_root() / path, data_root() / "vision" / path):
        for ending in ("", ".npz"):
            found = place.with_name(place.name + ending)
            if found.exists():
                return found
    if len(path.parts) > 1 or path.suffix:
        raise UserError(f"there is no file or folder {str(data)!r}, here or under the data root {str(data_root())!r}; check the path")
    return None


def _read(path: Path, size: int) -> Raw:
    if path.is_dir():
        return readers.read_folder(path, size)
    if path.suffix == ".npz":
        return readers.read_npz(path)
    if "idx3" in path.name or path.name.endswith(("-ubyte", "-ubyte.gz")):
        return readers.read_idx_pair(path)
    raise UserError(f"{str(path)!r} is no data of images; give a folder of pictures, a .npz file or an idx file (images-idx3-ubyte.gz)")


def digits() -> ImageSource:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, grey, 10 classes; needs no file."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return ImageSource(torch.from_numpy(images / 16).float().view(-1, 1, 8, 8), labels, name="digits")


def mnist() -> ImageSource:
    """MNIST: handwritten digits of 28 x 28 pixels, grey, 10 classes, from its idx files under the data root.

    With all four files in vision/mnist, 60,000 train and 10,000 test images. With the official test part alone, in vision/mnist or
    vision/mnist_t10k, its first 8,000 images train and its last 2,000 test.
    """
    folder = _folder("mnist", ("mnist", "mnist_t10k"), "its files, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz at least,")
    test = readers.read_idx_pair(_idx_file(folder, "t10k"))
    if test.labels is None:
        raise UserError(f"MNIST's labels are missing in {str(folder)!r}; put t10k-labels-idx1-ubyte.gz there")
    if not any(folder.glob("train-images-idx3-ubyte*")):
        parts = {"train": range(len(test.images) * 4 // 5), "test": range(len(test.images) * 4 // 5, len(test.images))}
        return as_source(replace(test, parts=parts), "mnist", split_name="official test part, first 80 % train, rest test")
    train = readers.read_idx_pair(_idx_file(folder, "train"))
    whole = torch.cat([train.images, test.images])
    parts = {"train": range(len(train.images)), "test": range(len(train.images), len(whole))}
    return as_source(Raw(whole, np.concatenate([train.labels, test.labels]), parts=parts), "mnist", split_name="official")


def _idx_file(folder: Path, part: str) -> Path:
    packed = folder / f"{part}-images-idx3-ubyte.gz"
    return packed if packed.is_file() else packed.with_suffix("")


def coil20() -> ImageSource:
    """COIL-20: 20 objects on a turntable, 72 photographs each, grey, 64 x 64; from coil20_64.npz in vision/coil20_64 under the data root.

    Poses 0 to 17, a quarter of a turn, train; all others test.
    """
    folder = _folder("coil20", ("coil20_64", "coil20"), "coil20_64.npz (images (N, 64, 64) uint8, object_id and pose_index (N,))")
    path = folder / "coil20_64.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels, pose = file["images"], file["object_id"], file["pose_index"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{str(path)!r} cannot be read as COIL-20 ({error}); get the file again") from error
    train = torch.from_numpy(pose < 18)
    published = Split.from_masks(train, torch.zeros_like(train), ~train, name="poses 0 to 17 train, rest test")
    return ImageSource(readers.as_images(images, "coil20"), labels, name="coil20", published=published)


def cifar10() -> ImageSource:
    """CIFAR-10: 50,000 train and 10,000 test images of 32 x 32 pixels, 10 classes; from vision/cifar10 under the data root."""
    return _cifar(10, ("cifar10", "cifar-10-batches-bin", "cifar-10-batches-py"))


def cifar100() -> ImageSource:
    """CIFAR-100: 50,000 train and 10,000 test images of 32 x 32 pixels, 100 fine classes; from vision/cifar100 under the data root."""
    return _cifar(100, ("cifar100", "cifar-100-binary", "cifar-100-python"))


def _cifar(classes: int, folders: Sequence[str]) -> ImageSource:
    folder = _folder(f"cifar{classes}", folders, "the unpacked files of its binary or python version")
    return as_source(readers.read_cifar(folder, classes), f"cifar{classes}", split_name="official")


def _folder(name: str, folders: Sequence[str], content: str) -> Path:
    """The first of several folders that is there, in "vision" under the data root or in the data root itself."""
    for folder in folders:
        for place in (data_root() / "vision" / folder, data_root() / folder):
            if place.is_dir():
                return place
    place = data_root() / "vision" / folders[0]
    raise UserError(f"the data set {name!r} is not under the data root {str(data_root())!r}; put {content} into {str(place)!r}")
