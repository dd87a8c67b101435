from __future__ import annotations

import gzip
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anyview.data.source import Epoch
from anyview.data.splits import Split
from anyview.errors import UserError
from anyview.evaluation.embedding import embed
from anyview.testing import check_source
from anyview.views.pair import Pair
from anyview_images import datasets
from anyview_images.datasets import ImageSource, class_numbers, digits, open_images
from anyview_images.networks import Normalised
from anyview_images.resnet import ResNet

STORED = torch.randint(0, 256, (23, 3, 6, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
LABELS = np.arange(23) % 3
PUBLISHED = Split(torch.arange(2, 17), torch.arange(17, 19), torch.arange(19, 23), name="published")


@pytest.mark.parametrize("batch_size", [None, 5, 23, 100])
@pytest.mark.parametrize("published", [None, PUBLISHED])
def test_keeps_the_contract(batch_size: int | None, published: Split | None) -> None:
    check_source(partial(ImageSource, STORED, LABELS, published=published), batch_size=batch_size)
    check_source(partial(ImageSource, STORED / 255, LABELS, ids=list("abcdefghijklmnopqrstuvw")), batch_size=batch_size)


def test_digits_are_embedded() -> None:
    check_source(digits, batch_size=256)
    source = digits()
    assert source.shape == {"channels": 1, "height": 8, "width": 8}
    assert (float(source.images.min()), float(source.images.max())) == (0.0, 1.0)
    assert source.describe() == {"name": "digits", "samples": 1797, "channels": 1, "height": 8, "width": 8, "classes": 10}
    assert open_images("digits").describe() == open_images("images/digits").describe() == source.describe()


def test_images_stay_small_until_they_are_moved() -> None:
    batch = next(ImageSource(STORED).batches(Epoch(batch_size=5)))
    assert batch.data.dtype == torch.uint8
    moved = batch.to("cpu")
    torch.testing.assert_close(moved.data, STORED[batch.index] / 255)
    assert torch.equal(moved.to("cpu").data, moved.data)
    assert (moved.rows, moved.total) == (5, 5)
    (view,) = ImageSource(STORED).clean()
    torch.testing.assert_close(view.data, STORED / 255)


def test_only_training_images_are_shown_in_training() -> None:
    source = ImageSource(STORED, LABELS, published=PUBLISHED)
    assert (len(source), source.steps(4), source.steps(None)) == (23, 3, 1)
    seen = {int(row) for number in range(20) for batch in source.batches(Epoch(number=number, batch_size=4)) for row in batch.index}
    assert seen == set(range(2, 17))
    for batch in source.batches(Epoch(batch_size=4)):
        assert torch.equal(batch.data, STORED[batch.index])
    assert source.split(5) is PUBLISHED
    assert source.describe()["split"] == "published"
    assert source.describe()["pre-trained on"] == "15 training images"


def test_labels_reach_batches_only_when_asked() -> None:
    assert next(ImageSource(STORED, LABELS).batches(Epoch())).labels is None
    batch = next(ImageSource(STORED, LABELS, labelled=True).batches(Epoch(batch_size=5)))
    assert batch.labels.tolist() == (batch.index % 3).tolist()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(["b", "", "a"], [1, -1, 0]), ([7, -1, 3], [1, -1, 0]), ([[1, 0], [0, 1], [1, 1]], [[1, 0], [0, 1], [1, 1]])],
)
def test_labels_become_numbers(labels: list, expected: list) -> None:
    assert class_numbers(labels, 3, "mine").tolist() == expected


@pytest.mark.parametrize("labels", [[0, 1], [[[0]]] * 3, [0.0, np.nan, 1.0], np.array([None, "a", "b"], dtype=object)])
def test_labels_that_do_not_fit_are_refused(labels: object) -> None:
    with pytest.raises(UserError, match=r"give (one for each image|every image a class)"):
        class_numbers(labels, 3, "mine")


def test_ids_that_do_not_fit_and_batches_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(UserError, match="the ids of 'images' are 2 and the images 23"):
        ImageSource(STORED, ids=[1, 2])
    with pytest.raises(UserError, match="a batch of 1 images cannot be shared by 2 ranks"):
        next(ImageSource(STORED).batches(Epoch(batch_size=1, ranks=2)))


def test_large_images_are_seen_in_parts_and_have_averaged_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "CLEAN_PIXELS", 3 * 128 * 96)
    large = torch.rand(8, 1, 128, 96)
    source = ImageSource(large)
    assert [len(view.data) for view in source.clean()] == [3, 3, 2]
    features = torch.from_numpy(source.features()).view(8, 1, 32, 32)
    torch.testing.assert_close(features[:, :, 0, 0], large[:, :, :4, :3].mean((2, 3)))


def test_shifted_images() -> None:
    source = ImageSource(STORED, LABELS, published=PUBLISHED)
    encoder = Normalised(ResNet(3, depth=10, widths=(4,), stem="small"))
    clean = embed(encoder, source)
    for name in source.corruptions:
        other = source.corrupted(name, 3, 0)
        assert other.images.dtype == torch.uint8
        assert other.images.shape == STORED.shape
        assert torch.equal(other.images, source.corrupted(name, 3, 0).images)
        assert not np.allclose(embed(encoder, other), clean)
        assert torch.equal(other.labels, source.labels)
    assert not torch.equal(source.corrupted("rotation", 3, 1).images, source.corrupted("rotation", 3, 0).images)
    assert torch.equal(source.images, STORED)
    with pytest.raises(UserError, match="has no shift 'fog'; it has gaussian_noise"):
        source.corrupted("fog", 1, 0)


def test_arrays_sources_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ImageSource(STORED)
    assert open_images(source) is source
    assert torch.equal(open_images(STORED.permute(0, 2, 3, 1).numpy()).images, STORED)
    np.savez(tmp_path / "mine.npz", x=STORED.numpy(), y=LABELS)
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    for name in (str(tmp_path / "mine.npz"), "mine.npz", "mine"):
        found = open_images(name)
        assert found.name == "mine"
        assert found.labels.tolist() == LABELS.tolist()
        assert found.split(0).name.startswith("stratified")
    np.savez(tmp_path / "parts.npz", x_train=STORED[:15].numpy(), y_train=LABELS[:15], x_test=STORED[15:].numpy(), y_test=LABELS[15:])
    parts = open_images("parts")
    assert parts.train_rows.tolist() == list(range(15))
    assert parts.split(0).test.tolist() == list(range(15, 23))
    assert len(parts.split(0).validation) == 0


def test_a_folder_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    for number in range(4):
        (tmp_path / "vision" / "pets" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        image.fromarray(STORED[number].permute(1, 2, 0).numpy()).save(tmp_path / "vision" / "pets" / "ab"[number % 2] / f"{number}.png")
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    for name in ("pets", str(tmp_path / "vision" / "pets")):
        source = open_images(name, size=6)
        assert source.shape == {"channels": 3, "height": 6, "width": 6}
        assert source.labels.tolist() == [0, 0, 1, 1]
        assert source.ids == ["a/0.png", "a/2.png", "b/1.png", "b/3.png"]
    assert open_images("pets", size=6).place is None  # found by its name again
    monkeypatch.chdir(tmp_path / "vision")
    assert open_images("pets", size=6).place == str(tmp_path / "vision" / "pets")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("some/where.npz", "there is no file or folder 'some/where.npz'"),
        ("where.npz", "there is no file or folder 'where.npz'"),
        ("digit", "there is no data set 'digit'; did you mean .*digits"),
        ("core/digits", r"the data set 'digits' has {'features': 64}, and images were asked for"),
        (np.zeros((3, 4)), r"an array of \(3, 4\)"),
    ],
)
def test_data_that_is_not_there_or_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: object, sentence: str) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    with pytest.raises(UserError, match=sentence):
        open_images(data)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="is no data of images; give a folder of pictures"):
        open_images(tmp_path / "mine.csv")


@pytest.mark.parametrize("name", ["mnist", "coil20", "cifar10", "cifar100"])
def test_absent_sets_say_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    with pytest.raises(UserError, match=rf"the data set '{name}' is not under the data root '.*'; put .* into '.*vision.*{name}.*'"):
        open_images(name)


def idx(array: np.ndarray) -> bytes:
    return gzip.compress(struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())


def write_mnist(folder: Path, part: str, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(np.full((count, 28, 28), count, dtype=np.uint8)))
    (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx((np.arange(count) % 10).astype(np.uint8)))


def test_mnist_whole_or_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    write_mnist(tmp_path / "vision" / "mnist_t10k", "t10k", 50)
    part = open_images("mnist")
    assert (len(part), part.steps(10), part.split(0).test.tolist()) == (50, 4, list(range(40, 50)))
    assert part.describe()["split"] == "official test part, first 80 % train, rest test"
    write_mnist(tmp_path / "vision" / "mnist", "t10k", 20)
    write_mnist(tmp_path / "vision" / "mnist", "train", 60)
    whole = open_images("mnist")
    assert (len(whole), whole.steps(10), whole.split(0).test.tolist()) == (80, 6, list(range(60, 80)))
    assert whole.images[:, 0, 0, 0].tolist() == [60] * 60 + [20] * 20
    (tmp_path / "vision" / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="MNIST's labels are missing"):
        open_images("mnist")


def test_real_mnist(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    if not (data_root / "vision" / "mnist_t10k").is_dir():
        pytest.skip("MNIST's test part is not under the data root")
    source = open_images("mnist")
    assert source.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    split = source.split(0)
    assert (split.train.tolist(), split.test.tolist()) == (list(range(8000)), list(range(8000, 10000)))
    assert torch.equal(source.train_rows, split.train)


def test_real_coil20(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    if not (data_root / "vision" / "coil20_64").is_dir():
        pytest.skip("COIL-20 is not under the data root")
    source = open_images("coil20")
    split = source.split(0)
    assert source.shape == {"channels": 1, "height": 64, "width": 64}
    assert (len(split.train), len(split.test)) == (20 * 18, 20 * 54)
    features = torch.from_numpy(source.features())
    nearest = torch.cdist(features[split.test], features[split.train]).argmin(1)
    accuracy = (source.labels[split.train][nearest] == source.labels[split.test]).float().mean()
    assert abs(float(accuracy) - 0.727) < 0.002


def test_coil20_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    (tmp_path / "vision" / "coil20_64").mkdir(parents=True)
    np.savez(tmp_path / "vision" / "coil20_64" / "coil20_64.npz", images=np.zeros((2, 64, 64), np.uint8))
    with pytest.raises(UserError, match="cannot be read as COIL-20"):
        open_images("coil20")


def test_stored_batches_can_be_shown_by_any_view_maker() -> None:
    def identity(data: Tensor, draws: object) -> Tensor:
        assert data.dtype == torch.float32
        return data

    batch = next(ImageSource(STORED).batches(Epoch(batch_size=4))).to("cpu")
    from anyview.views.draws import Draws

    assert len(Pair(identity)(batch, Draws.seeded(0, total=4)).views) == 2


def test_a_file_named_without_its_ending_is_known_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "mine.npz", x=STORED.numpy())
    monkeypatch.chdir(tmp_path)
    assert open_images("mine").place == str(tmp_path / "mine.npz")
    assert open_images("digits").place is None
