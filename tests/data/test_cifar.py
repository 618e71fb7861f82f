from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrlab.data import CIFAR10, CIFAR100, DataError, ImageData, cache_directory, check_cifar, load_cifar


def content(data: ImageData) -> tuple[Any, ...]:
    splits = (data.train.images, data.train.labels, data.test.images, data.test.labels)
    return (data.name, data.classes, data.mean, data.std, *(bytes(tensor.numpy()) for tensor in splits))


def test_images_and_labels_are_those_of_the_records_one_by_one(small: Any, tmp_path: Path) -> None:
    small.extract(tmp_path)
    data = load_cifar(small.archive, tmp_path)
    assert data.classes == ("cat", "dog", "frog")
    for split, names in ((data.train, ("one.bin", "two.bin")), (data.test, ("test.bin",))):
        assert split.images.shape == (6 * len(names), 3, 32, 32)
        for index in range(len(split)):
            record = small.files[names[index // 6]][(index % 6) * 3073 :][:3073]
            assert int(split.labels[index]) == record[0]
            for plane, row, column in ((0, 0, 0), (0, 0, 31), (0, 31, 0), (1, 3, 5), (2, 31, 31)):
                assert int(split.images[index, plane, row, column]) == record[1 + plane * 1024 + row * 32 + column]


def test_of_two_label_bytes_the_second_counts(small_with_coarse_labels: Any, tmp_path: Path) -> None:
    small_with_coarse_labels.extract(tmp_path)
    data = load_cifar(small_with_coarse_labels.archive, tmp_path)
    assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2] * 2
    assert bytes(data.test.images[1].numpy()) == small_with_coarse_labels.files["test.bin"][3074 + 2 : 2 * 3074]


def test_the_archive_and_the_files_in_either_place_give_the_same_data(small: Any, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("packed", "direct", "official")]
    for folder in folders:
        folder.mkdir()
    small.pack(folders[0])
    small.extract(folders[1])
    small.extract(folders[2] / "small-bin")
    packed, direct, official = (content(load_cifar(small.archive, folder)) for folder in folders)
    assert packed == direct == official


def test_reading_an_archive_writes_nothing(small: Any, tmp_path: Path) -> None:
    path = small.pack(tmp_path)
    load_cifar(small.archive, tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_archive_wins_over_extracted_files_since_it_can_be_proved(small: Any, tmp_path: Path) -> None:
    small.pack(tmp_path)
    small.extract(tmp_path / "small-bin")
    (tmp_path / "small-bin" / "one.bin").unlink()
    assert check_cifar(small.archive, tmp_path).endswith("(checked: SHA-256)")


def test_the_folder_with_more_of_the_files_is_the_one_that_is_read(small: Any, tmp_path: Path) -> None:
    small.extract(tmp_path)
    (tmp_path / "small-bin").mkdir()
    (tmp_path / "small-bin" / "names.txt").write_text("x")
    assert len(load_cifar(small.archive, tmp_path).train) == 12


def test_without_a_directory_the_cache_is_read(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRLAB_DATA_DIR", str(tmp_path))
    small.extract(tmp_path / "small-bin")
    assert cache_directory() == tmp_path
    assert len(load_cifar(small.archive, None).train) == 12


def test_the_cache_is_where_the_operating_system_keeps_such_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LRLAB_DATA_DIR", raising=False)
    assert cache_directory().name == "lrlab"
    monkeypatch.setenv("LRLAB_DATA_DIR", "~/data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "data"


def fails(archive: Any, directory: Path, *messages: str) -> None:
    with pytest.raises(DataError) as caught:
        load_cifar(archive, directory)
    for message in messages:
        assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_an_empty_directory_says_what_is_missing_and_what_to_do(small: Any, tmp_path: Path) -> None:
    fails(
        small.archive,
        tmp_path,
        f"small: {tmp_path} holds neither small-binary.tar.gz nor extracted files",
        "Run lrlab data fetch small, or name the right folder: data.dir (--data-dir where the command has it).",
    )


def test_a_directory_that_is_not_there_says_so(small: Any, tmp_path: Path) -> None:
    fails(small.archive, tmp_path / "nowhere", f"{tmp_path / 'nowhere'} holds neither")


def test_a_directory_that_cannot_be_read_says_so(small: Any, tmp_path: Path) -> None:
    fails(small.archive, tmp_path / ("x" * 300), "small: cannot be read: ", "File name too long")


def test_all_missing_files_are_listed_at_once(small: Any, tmp_path: Path) -> None:
    small.extract(tmp_path)
    (tmp_path / "two.bin").unlink()
    (tmp_path / "names.txt").unlink()
    fails(small.archive, tmp_path, f"{tmp_path} lacks two.bin, names.txt.", "Extract small-binary.tar.gz again")


@pytest.mark.parametrize("cut", [1, 3073, 6 * 3073])
def test_a_truncated_file_says_its_size(small: Any, tmp_path: Path, cut: int) -> None:
    small.extract(tmp_path)
    size = 6 * 3073
    (tmp_path / "two.bin").write_bytes(small.files["two.bin"][: size - cut])
    fails(small.archive, tmp_path, f"{tmp_path / 'two.bin'}: must be {size:,} bytes, got {size - cut:,}")


def test_a_file_that_is_too_long_says_its_size(small: Any, tmp_path: Path) -> None:
    small.extract(tmp_path)
    (tmp_path / "test.bin").write_bytes(small.files["test.bin"] + b"\0")
    fails(small.archive, tmp_path, "test.bin: must be 18,438 bytes, got 18,439")


def test_all_files_of_a_wrong_size_are_listed(small: Any, tmp_path: Path) -> None:
    small.extract(tmp_path)
    (tmp_path / "one.bin").write_bytes(b"")
    (tmp_path / "names.txt").write_text("cat\n" * 5000)
    with pytest.raises(DataError, match=r"(?s)one.bin: must be.*got 0.*names.txt: must be at most 4,096 .* 20,000"):
        load_cifar(small.archive, tmp_path)


@pytest.mark.parametrize("label", [3, 255])
def test_a_label_out_of_range_says_where_it_is(small: Any, tmp_path: Path, label: int) -> None:
    def change(files: dict[str, bytes]) -> None:
        records = np.frombuffer(files["two.bin"], np.uint8).reshape(6, -1).copy()
        records[4:, 0] = label
        files["two.bin"] = records.tobytes()

    wrong = small.changed(change)
    where = "two.bin, record 4 (counted from 0): label must be 0 to 2"
    wrong.extract(tmp_path)
    fails(wrong.archive, tmp_path, str(tmp_path), where, f"got {label} (2 such records)")
    path = wrong.pack(tmp_path)
    fails(wrong.archive, tmp_path, str(path), where)


def test_a_class_without_training_images_is_named(small: Any, tmp_path: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        for name in ("one.bin", "two.bin"):
            records = np.frombuffer(files[name], np.uint8).reshape(6, -1).copy()
            records[:, 0] %= 2
            files[name] = records.tobytes()

    wrong = small.changed(change)
    wrong.extract(tmp_path)
    fails(wrong.archive, tmp_path, "these have none: 'frog'")


@pytest.mark.parametrize(("names", "number"), [("cat\ndog\n", 2), ("cat\ndog\nfrog\nnewt\n", 4), ("", 0)])
def test_a_wrong_number_of_class_names_is_refused(small: Any, tmp_path: Path, names: str, number: int) -> None:
    small.extract(tmp_path)
    (tmp_path / "names.txt").write_text(names)
    fails(small.archive, tmp_path, f"names.txt must name 3 classes, one a line, got {number}")


def test_a_changed_archive_says_both_checksums_and_what_to_do(small: Any, tmp_path: Path) -> None:
    path = small.pack(tmp_path)
    changed = bytearray(small.packed)
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(DataError, match=re.escape(f"{path}: SHA-256 must be {small.archive.sha256}, got ")) as caught:
        load_cifar(small.archive, tmp_path)
    found = re.findall(r"\b[0-9a-f]{64}\b", str(caught.value))
    assert len(set(found)) == 2
    assert f"delete it and download {small.archive.url} again" in str(caught.value)
    assert path.exists()  # it is the user's


def test_a_truncated_archive_says_how_much_is_there(small: Any, tmp_path: Path) -> None:
    path = small.pack(tmp_path)
    size = len(small.packed)
    path.write_bytes(small.packed[: size // 2])
    fails(small.archive, tmp_path, "SHA-256", f"({size // 2:,} bytes of {size:,})")


def test_a_check_says_what_is_there_and_how_it_was_checked(small: Any, tmp_path: Path) -> None:
    folder = small.extract(tmp_path / "small-bin")
    assert check_cifar(small.archive, tmp_path).startswith(f"read from {folder} (checked: sizes and labels")


def test_a_check_of_an_empty_cache_downloads_nothing(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRLAB_DATA_DIR", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="lrlab data fetch small"):
        check_cifar(small.archive, None)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("archive", "name", "num_records", "num_bytes"),
    [
        (CIFAR10, "cifar-10-binary.tar.gz", (50_000, 10_000), 30_730_000),
        (CIFAR100, "cifar-100-binary.tar.gz", (50_000, 10_000), 30_740_000),
    ],
)
def test_the_official_archives_have_the_published_layout(
    archive: Any, name: str, num_records: tuple[int, int], num_bytes: int
) -> None:
    assert archive.file_name == name
    assert archive.url == f"https://www.cs.toronto.edu/~kriz/{name}"
    assert re.fullmatch("[0-9a-f]{64}", archive.sha256)
    assert tuple(sum(file.num_records for file in files) for files in (archive.train, archive.test)) == num_records
    assert archive.sizes[archive.test[0].name] == num_bytes
    assert sum(archive.sizes.values()) == 6 * num_bytes
