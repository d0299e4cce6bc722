"""Members of zip and tar archives, and of archives within them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lnq.archive.discovery import ToSegment, discover
from lnq.archive.members import ARCHIVES, Encrypted, is_archive, members
from lnq.image.itk import write_volume

FILES = {"b/two": b"22", "a/one": b"1", "three": b"333"}


def zipped(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def read(path: Path) -> dict[str, bytes]:
    return {member.name: member.open().read() for member in members(path)}


@pytest.mark.parametrize("data", [zipped(FILES), *(tarred(FILES, mode) for mode in ("w", "w:gz", "w:bz2", "w:xz"))])
def test_all_files_are_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert read(tmp_path / "a") == FILES


def test_archives_within_archives_are_entered(tmp_path: Path) -> None:
    inner = {"x.zip": zipped({"c": b"4"}), "d/y.tgz": tarred({"z.zip": zipped({"e": b"5"})}, "w:gz")}
    (tmp_path / "a.zip").write_bytes(zipped(FILES | inner))
    assert read(tmp_path / "a.zip") == FILES | {"x.zip//c": b"4", "d/y.tgz//z.zip//e": b"5"}


def test_links_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert read(tmp_path / "a.tar") == {}


def test_an_encrypted_archive_says_so(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": b"1"}))
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(Encrypted):
        list(members(tmp_path / "a.zip"))


def test_archives_are_told_by_their_names() -> None:
    assert all(is_archive(f"STUDY{end.upper()}") for end in ARCHIVES) and not is_archive("ct.nii.gz")


@pytest.mark.parametrize("name", ["a.tgz", "a.tar", "a.zip"])
def test_a_ct_in_an_archive_is_read(tmp_path: Path, thorax, name: str) -> None:
    write_volume(thorax, tmp_path / "ct.nii.gz")
    inner = {"p/ct.nii.gz": (tmp_path / "ct.nii.gz").read_bytes()}
    pack = {"a.tgz": lambda files: tarred(files, "w:gz"), "a.tar": tarred, "a.zip": zipped}[name]
    (tmp_path / name).write_bytes(pack(inner | {"inner.zip": zipped(inner)}))
    found = [one for one in discover([tmp_path / name]) if isinstance(one, ToSegment)]
    assert len(found) == 2
    for number, one in enumerate(found):
        (tmp_path / str(number)).mkdir()
        np.testing.assert_array_equal(one.case.open(tmp_path / str(number)).volume.array, thorax.array)
