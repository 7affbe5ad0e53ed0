"""Odd images and labels, as ``benchmarks.odd_inputs`` lists them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from benchmarks.commands import IMAGES, Case, Command, without_privileges, write_preset

SIZE = 16
CLASSES = ("cat", "dog")
SPLITS = (("train", 24), ("test", 8))
"""Images of each class."""


def noise(seed: int, channels: int = 3) -> NDArray[np.uint8]:
    """uint8 (H, W, C), another image for each seed."""
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, channels), dtype=np.uint8)


def save(path: Path, pixels: NDArray[Any]) -> None:
    """Write an image, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def encoded(pixels: NDArray[Any]) -> bytes:
    """An image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def folder(place: Path, classes: Sequence[str] = CLASSES, splits: Sequence[tuple[str, int]] = SPLITS) -> list[Path]:
    """Write ``images/SPLIT/CLASS/NUMBER.png``; returns the files."""
    files = [
        place / "images" / split / name / f"{number:03}.png"
        for split, count in splits
        for name in classes
        for number in range(count)
    ]
    for seed, file in enumerate(files):
        save(file, noise(seed))
    return files


def gallery(place: Path, *more: str, **changes: Any) -> list[Command]:
    """Draw the attacks on ``images``: the command that reads data and needs no Ray."""
    preset = write_preset(place, **({"data": IMAGES} | changes))
    return [Command(" ".join(["gallery --preset", preset, *more]))]


def doctor(place: Path, **changes: Any) -> list[Command]:
    """Examine ``images``."""
    return [Command(f"doctor {write_preset(place, **({'data': IMAGES} | changes))}")]


def alpha_shapes(place: Path) -> list[Command]:
    """Black all over; the shapes are in alpha alone."""
    for number, file in enumerate(folder(place, splits=(("train", 72), ("test", 24)))):
        save(file, np.dstack([np.zeros((SIZE, SIZE, 3), np.uint8), noise(number, 1) // 128 * 255]))
    return gallery(place)


def alpha_hidden(place: Path) -> list[Command]:
    """Transparent pixels that hide streaks of colour, as emoji have."""
    for number, file in enumerate(folder(place)):
        pixels = noise(number, 4)
        pixels[..., 3] = np.where(np.hypot(*np.indices((SIZE, SIZE)) - 7.5) < 6, 255, 0)
        save(file, pixels)
    return gallery(place)


def alpha_white(place: Path) -> list[Command]:
    """White icons on nothing, which the default background hides."""
    for number, file in enumerate(folder(place)):
        save(file, np.dstack([np.full((SIZE, SIZE, 3), 255, np.uint8), noise(number, 1)]))
    return [*gallery(place), *gallery(place, "--set data.background=black")]


def nested(place: Path) -> list[Command]:
    """``CLASS/*.jpg`` and ``CLASS/session2/*.jpg``."""
    for label, name in enumerate(CLASSES):
        for number in range(160):
            deeper = "" if number < 40 else "session2/"
            save(place / "images" / name / f"{deeper}{number}.jpg", noise(1000 * label + number))
    return gallery(place)


def formats(place: Path) -> list[Command]:
    """What phones and desktops leave between images."""
    first, *_ = folder(place)
    for name in ("IMG_1.HEIC", "drawing.svg", "notes.txt", "._000.png", "Thumbs.db"):
        (first.parent / name).write_bytes(b"not read")
    (place / "images" / "train" / "README.md").write_text("About these images.", encoding="utf-8")
    return gallery(place)


def twelve_bits(place: Path) -> list[Command]:
    """12 bits in files of 16."""
    for number, file in enumerate(folder(place)):
        save(file, np.random.default_rng(number).integers(0, 4096, (SIZE, SIZE), dtype=np.uint16))
    return [*gallery(place), *gallery(place, "--set data.max_value=4095")]


def four_bits(place: Path) -> list[Command]:
    """4 bits in files of 8."""
    for number, file in enumerate(folder(place)):
        save(file, noise(number) // 16)
    return gallery(place)


def closed_folder(place: Path) -> list[Command]:
    """A class folder that may not be read."""
    files = folder(place)
    (command,) = gallery(place)
    files[0].parent.chmod(0)
    return [Command(command.words, before=without_privileges())]


def closed_image(place: Path) -> list[Command]:
    """One image that may not be read."""
    files = folder(place)
    files[0].chmod(0)
    words = [command.words for more in ((), ("--set data.unreadable=leave_out",)) for command in gallery(place, *more)]
    return [Command(word, before=without_privileges()) for word in words]


def numbered(place: Path) -> list[Command]:
    """Class folders 0 to 11."""
    folder(place, [str(number) for number in range(12)])
    return doctor(place, scenarios=[{"attack": "badnets", "poison_rate": 0.02, "target": 2}])


def numbered_from_one(place: Path) -> list[Command]:
    """Class folders 1 to 10, where a number may mean two classes; by name it means one."""
    folder(place, [str(number) for number in range(1, 11)])
    scenarios = [{"attack": "badnets", "poison_rate": 0.05, "target": 3}]
    named = """--set 'scenarios.0.target="3"'"""
    return [*gallery(place, scenarios=scenarios), *gallery(place, named, scenarios=scenarios)]


def validation(place: Path) -> list[Command]:
    """``train`` and ``valid``."""
    folder(place, splits=(("train", 24), ("valid", 8)))
    return doctor(place)


def capitals(place: Path) -> list[Command]:
    """``Training``, ``Validation`` and ``Test``."""
    folder(place, splits=(("Training", 24), ("Validation", 8), ("Test", 8)))
    return gallery(place)


def broken(place: Path) -> list[Command]:
    """17 files of 240 are cut off."""
    for file in folder(place, splits=(("train", 90), ("test", 30)))[::14][:17]:
        file.write_bytes(file.read_bytes()[:100])
    return [*gallery(place), *gallery(place, "--set data.unreadable=leave_out")]


def broken_kinds(place: Path) -> list[Command]:
    """A file of no bytes, a web page and a header with nothing behind it, called as images are."""
    files = folder(place)
    contents = (b"", b"<html>404</html>", encoded(noise(0))[:33])
    for file, content in zip(files, contents, strict=False):
        file.write_bytes(content)
    return [*gallery(place), *gallery(place, "--set data.unreadable=leave_out")]


def parquet(place: Path, columns: dict[str, dict[str, Sequence[Any]]]) -> list[Command]:
    """Write ``data/SPLIT.parquet`` with images and the columns of each split, and draw the attacks on it."""
    (place / "data").mkdir()
    for start, (split, own) in enumerate(columns.items()):
        count = len(next(iter(own.values())))
        images = [{"bytes": encoded(noise(1000 * start + number)), "path": None} for number in range(count)]
        pq.write_table(pa.table({"image": images, **own}), place / "data" / f"{split}.parquet")
    return gallery(place, data={"source": "parquet:data"})


def text_labels(place: Path) -> list[Command]:
    """A column ``labels`` with text."""
    return parquet(place, {"train": {"labels": CLASSES * 24}, "test": {"labels": CLASSES * 8}})


def bool_labels(place: Path) -> list[Command]:
    """True and false."""
    return parquet(place, {"train": {"label": [True, False] * 24}, "test": {"label": [True, False] * 8}})


def fine_labels(place: Path) -> list[Command]:
    """``fine_label`` and ``coarse_label``, as in CIFAR-100."""
    both: dict[str, Sequence[Any]] = {"fine_label": [0, 1, 2, 3] * 12, "coarse_label": [0, 0, 1, 1] * 12}
    commands = parquet(place, {"train": both, "test": {name: values[:16] for name, values in both.items()}})
    return [*commands, *(Command(f"{command.words} --set data.label_column=fine_label") for command in commands)]


def no_test_labels(place: Path) -> list[Command]:
    """Test labels are all -1, as in the sets of competitions."""
    return parquet(place, {"train": {"label": [0, 1] * 24}, "test": {"label": [-1] * 16}})


def two_images(place: Path) -> list[Command]:
    """Two columns of images, and labels that are floating-point numbers."""
    masks = [{"bytes": encoded(noise(number, 1)[..., 0]), "path": None} for number in range(48)]
    commands = parquet(place, {"train": {"img": masks, "label": [0.0, 1.0] * 24}})
    return [*commands, *(Command(f"{command.words} --set data.image_column=image") for command in commands)]


def same_splits(place: Path) -> list[Command]:
    """The images of ``test`` are those of ``train``: 240 of 240."""
    files = folder(place, splits=(("train", 120), ("test", 120)))
    for number, file in enumerate(files):
        save(file, noise(number % 240))
    return doctor(place)


def snapshots(place: Path) -> list[Command]:
    """Two snapshots of one set, as the cache of ``huggingface_hub`` keeps them."""
    images = [{"bytes": encoded(noise(number)), "path": None} for number in range(48)]
    for snapshot in ("1f0c", "9ab2"):
        path = place / "data" / "snapshots" / snapshot / "data"
        path.mkdir(parents=True)
        table = pa.table({"image": images, "label": [0, 1] * 24})
        pq.write_table(table, path / "train-00000-of-00001.parquet")
        pq.write_table(table.slice(0, 12), path / "test-00000-of-00001.parquet")
    return gallery(place, data={"source": "parquet:data"})


def two_classes(place: Path) -> list[Command]:
    """The same pixels in two classes."""
    files = folder(place)
    for number in range(5):
        files[24 + number].write_bytes(files[number].read_bytes())
    return gallery(place)


def small_source(place: Path) -> list[Command]:
    """The source class of one attack is too small."""
    folder(place, splits=(("train", 24), ("test", 8)))
    tact = {"attack": "tact", "poison_rate": 0.7, "source": 1, "cover_classes": [0], "cover_rate": 0.1, "target": 0}
    return gallery(place, scenarios=[{"attack": "badnets", "poison_rate": 0.1, "target": 0}, tact])


def large_trigger(place: Path) -> list[Command]:
    """The patch of one attack is larger than the images, and another names a class that is not there."""
    folder(place)
    scenarios = [
        {"attack": "badnets", "poison_rate": 0.1, "target": "cat"},
        {"attack": "badnets", "name": "large", "poison_rate": 0.1, "target": 0, "size": 17},
        {"attack": "blend", "poison_rate": 0.1, "target": "dogs"},
    ]
    return gallery(place, scenarios=scenarios)


ALPHA = "PNGs with alpha"
DEEPER = "`CLASS/*.jpg` and `CLASS/session2/*.jpg` together"
BITS = "12 of 16 bits used in PNGs"
CLOSED = "a class folder that may not be read"
NUMBERS = "class folders `0` to `11`, `target: 2`"
VALID = "`train/` with `val/` or `valid/`"
BROKEN = "17 broken files of 240"
COLUMNS = "Parquet with `labels`, `fine_label`, text or bool labels; test labels all -1"
COPIES = "the same images in train and test (240 of 240); a cache folder with two snapshots of one set"
GALLERY = "`gallery --data` of one's own, where one attack's source class is too small"
FOUND = r"Left out|Warning|annot|refused|Traceback|Error"

CASES = (
    Case("alpha-shapes", ALPHA, alpha_shapes, FOUND),
    Case("alpha-hidden", ALPHA, alpha_hidden, FOUND),
    Case("alpha-white", ALPHA, alpha_white, FOUND, ours=True),
    Case("nested", DEEPER, nested, FOUND),
    Case("formats", DEEPER, formats, FOUND, ours=True),
    Case("twelve-bits", BITS, twelve_bits, f"{FOUND}|Written"),
    Case("four-bits", BITS, four_bits, FOUND, ours=True),
    Case("closed-folder", CLOSED, closed_folder, FOUND),
    Case("closed-image", CLOSED, closed_image, FOUND, ours=True),
    Case("numbered", NUMBERS, numbered, f"{FOUND}|preset:"),
    Case("numbered-from-one", NUMBERS, numbered_from_one, f"{FOUND}|target|Written", ours=True),
    Case("valid", VALID, validation, f"{FOUND}|data:"),
    Case("capitals", VALID, capitals, f"{FOUND}|data:", ours=True),
    Case("broken", BROKEN, broken, FOUND),
    Case("broken-kinds", BROKEN, broken_kinds, FOUND, ours=True),
    Case("text-labels", COLUMNS, text_labels, f"{FOUND}|Written"),
    Case("bool-labels", COLUMNS, bool_labels, f"{FOUND}|Written"),
    Case("fine-labels", COLUMNS, fine_labels, f"{FOUND}|label|Written"),
    Case("no-test-labels", COLUMNS, no_test_labels, f"{FOUND}|label"),
    Case("two-images", COLUMNS, two_images, f"{FOUND}|column|label|Written", ours=True),
    Case("same-splits", COPIES, same_splits, f"{FOUND}|data:"),
    Case("snapshots", COPIES, snapshots, FOUND),
    Case("two-classes", COPIES, two_classes, FOUND, ours=True),
    Case("small-source", GALLERY, small_source, f"{FOUND}|Written"),
    Case("large-trigger", GALLERY, large_trigger, f"{FOUND}|Written", ours=True),
)
