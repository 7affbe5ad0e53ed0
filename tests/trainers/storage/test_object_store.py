"""Objects in a store beside files in a folder: whoever uses either sees the same."""

import time
from pathlib import Path

import pytest

from trainers.errors import ConfigError
from trainers.storage.files import local_copy, remove_tree, write_text, write_with
from trainers.storage.object_store import ObjectPath, Place, place


def names(folder: Place, pattern: str = "*") -> list[str]:
    return sorted(found.name for found in folder.glob(pattern))


def test_what_is_written_is_read(any_place: Place) -> None:
    write_text(any_place / "a" / "note.txt", "größer")
    write_with(any_place / "b.bin", lambda here: here.write_bytes(bytes(range(256)) * 100))
    assert (any_place / "a" / "note.txt").read_text() == "größer"
    with local_copy(any_place / "b.bin") as here:
        assert here.read_bytes() == bytes(range(256)) * 100
    write_text(any_place / "a" / "note.txt", "")
    assert (any_place / "a" / "note.txt").read_bytes() == b""


def test_what_fails_while_it_is_written_leaves_what_was_there(any_place: Place) -> None:
    def fail(here: Path) -> None:
        here.write_text("half", encoding="utf-8")
        raise RuntimeError("no more")

    write_text(any_place / "x", "whole")
    for name in ("x", "new"):
        with pytest.raises(RuntimeError, match="no more"):
            write_with(any_place / name, fail)
    assert (any_place / "x").read_text() == "whole"
    assert names(any_place) == ["x"]


def test_a_pattern_finds_what_lies_in_the_folder_itself(any_place: Place) -> None:
    assert names(any_place / "none") == []
    for name in ("run-0.1.safetensors", "run-0.12.safetensors", "run-1.1.safetensors", "below/run-0.2.safetensors"):
        write_text(any_place.joinpath(name) if isinstance(any_place, Path) else any_place / name, "")
    assert names(any_place, "run-0.*.safetensors") == ["run-0.1.safetensors", "run-0.12.safetensors"]
    assert names(any_place) == ["below", "run-0.1.safetensors", "run-0.12.safetensors", "run-1.1.safetensors"]
    (found,) = any_place.glob("run-1*")
    assert found == any_place / "run-1.1.safetensors"
    assert found.parent == any_place
    assert found.suffixes == [".1", ".safetensors"]


def test_what_is_not_there(any_place: Place) -> None:
    nothing = any_place / "none"
    assert not nothing.exists()
    nothing.unlink(missing_ok=True)
    remove_tree(nothing)
    with pytest.raises(FileNotFoundError):
        nothing.read_bytes()
    with pytest.raises(FileNotFoundError):
        nothing.unlink()
    with pytest.raises(FileNotFoundError), local_copy(nothing) as here:
        here.read_bytes()


def test_what_is_removed_is_gone_and_its_neighbours_are_not(any_place: Place) -> None:
    for name in ("t1", "t10"):
        write_text(any_place / name / "deep" / "state", name)
    remove_tree(any_place / "t1")
    assert not (any_place / "t1" / "deep" / "state").exists()
    assert names(any_place / "t1") == []
    assert (any_place / "t10" / "deep" / "state").read_text() == "t10"
    (any_place / "t10" / "deep" / "state").unlink()
    assert not (any_place / "t10" / "deep" / "state").exists()


def test_walking_names_every_object_below(s3: str) -> None:
    folder = ObjectPath(s3) / "walked"
    assert list((folder / "none").walk()) == []
    for name in ("a", "b/c", "b/d/e"):
        write_text(folder / name, "")
    assert sorted(folder.walk()) == ["a", "b/c", "b/d/e"]
    assert sorted((folder / "b").walk()) == ["c", "d/e"]


def test_an_address_is_told_from_a_path() -> None:
    assert place("runs/s3") == Path("runs/s3")
    assert place("s3://bucket/key/") == ObjectPath("s3://bucket/key")
    assert place("s3://bucket/me@home") == ObjectPath("s3://bucket/me@home")
    assert str(ObjectPath("s3://bucket/key") / "more") == "s3://bucket/key/more"
    assert {ObjectPath("s3://b/x"), ObjectPath("s3://b/x/")} == {ObjectPath("s3://b/x")}
    assert ObjectPath("s3://b/x") != Path("s3://b/x")


@pytest.mark.parametrize("address", ["s3://key:secret@bucket/runs", "s3://key:se/cr/et@bucket"])
def test_credentials_in_an_address_are_refused_and_not_shown(address: str) -> None:
    with pytest.raises(ConfigError, match="contains credentials; remove them") as caught:
        place(address)
    assert "key" not in str(caught.value)
    assert "se" not in str(caught.value).partition(" holds")[0]


def test_a_store_that_refuses_says_so(s3: str) -> None:
    with pytest.raises(OSError, match="NO_SUCH_BUCKET"):
        write_text(ObjectPath("s3://nobody/x"), "")
    assert not ObjectPath(f"{s3}/nothing").exists()


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_a_store_that_is_away_is_named_within_seconds(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(ConnectionError, match=f"^the endpoint of {variable} cannot be used: nothing listens on port 9"):
        ObjectPath(f"s3://bucket-of-{variable.lower()}/x").exists()
    assert time.monotonic() - began < 10
    monkeypatch.setenv(variable, "127.0.0.1:9")
    with pytest.raises(ConnectionError, match="it has no form such as https://HOST:PORT"):
        ObjectPath(f"s3://bucket-of-{variable.lower()}/x").exists()


def test_a_proxy_does_not_stand_for_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client of a store takes no proxy from the environment."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.invalid:9000")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    began = time.monotonic()
    with pytest.raises(ConnectionError, match=r"cannot be used: no host is known by the name store\.invalid"):
        ObjectPath("s3://bucket-behind-a-proxy/x").exists()
    assert time.monotonic() - began < 10
