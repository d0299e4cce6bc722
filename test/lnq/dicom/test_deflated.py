"""Deflated files are inflated no further than is wanted of them."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from helpers.dicom_slices import slice_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from lnq.archive.discovery import SetAside, discover
from lnq.dicom.deflated import inflated
from lnq.dicom.header import SliceFile, find_header
from lnq.errors import Damaged, ImageError


@pytest.fixture
def plain(tmp_path) -> bytes:
    slice_dataset(np.arange(12).reshape(3, 4), (0, 0, 5)).save_as(tmp_path / "plain.dcm", enforce_file_format=True)
    return (tmp_path / "plain.dcm").read_bytes()


@pytest.fixture
def deflated(plain) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(plain))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    written = io.BytesIO()
    dataset.save_as(written, enforce_file_format=True)
    return written.getvalue()


def with_bomb(deflated: bytes, megabytes: int, first: bool) -> bytes:
    """A private element of zeros put before the file's own elements or after them."""
    end = 144 + struct.unpack_from("<I", deflated, 140)[0]
    own = zlib.decompress(deflated[end:], -15)
    packer = zlib.compressobj(wbits=-15)
    packed = b"" if first else packer.compress(own)
    packed += packer.compress(struct.pack("<HH2sHI", 0x0009, 0x1010, b"OB", 0, megabytes << 20))
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes))
    return deflated[:end] + packed + (packer.compress(own) if first else b"") + packer.flush()


def test_a_deflated_file_is_its_plain_one(plain, deflated):
    stream = inflated(io.BytesIO(deflated), 1 << 20)
    assert stream is not None
    read = pydicom.dcmread(stream)
    assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert read == pydicom.dcmread(io.BytesIO(plain))
    assert inflated(io.BytesIO(plain), 1 << 20) is None


def test_no_more_is_inflated_than_wanted(deflated):
    stream = inflated(io.BytesIO(with_bomb(deflated, 64, first=False)), 5000)
    assert stream is not None
    assert len(stream.getbuffer()) == 5000


@pytest.mark.parametrize("cut", [0, 100, 131, 132, 140, 200])
def test_a_file_cut_off_in_its_description_is_not_deflated(deflated, cut):
    assert inflated(io.BytesIO(deflated[:cut]), 1 << 20) is None


def test_what_cannot_be_inflated_is_damaged(deflated):
    with pytest.raises(Damaged, match="it is damaged"):
        end = 144 + struct.unpack_from("<I", deflated, 140)[0]
        inflated(io.BytesIO(deflated[:end] + b"\xff" * 300), 1 << 20)


@pytest.mark.parametrize("first", [True, False])
def test_a_bomb_takes_no_memory(tmp_path, deflated, first):
    path = tmp_path / "bomb.dcm"
    path.write_bytes(with_bomb(deflated, 512, first))
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        if first:
            with pytest.raises(ImageError, match=r"its file bomb.dcm is damaged"):
                find_header(path)
        else:
            assert find_header(path).Rows == SliceFile.read(path).header.Rows == 3
        assert all(isinstance(found, SetAside) for found in discover([path]))
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
