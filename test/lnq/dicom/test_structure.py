import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from lnq.dicom.structure import PixelElement, find_pixels, open_plain
from lnq.errors import Damaged
from lnq.image.volume import Volume, make_affine

PIXELS = 2 * 4 * 6


def pixels_of(path: Path) -> PixelElement:
    with open_plain(path, 1 << 20) as (file, size):
        return find_pixels(file, size)


@pytest.fixture
def path(tmp_path: Path, write_dicom) -> Path:
    """A slice of 4 x 6 pixels that refers to two images, by codes."""
    write_dicom(Volume(np.arange(24, dtype=np.int16).reshape(1, 4, 6), make_affine((1, 1, 1))), tmp_path)
    code, image = pydicom.Dataset(), pydicom.Dataset()
    code.CodeValue, image.PurposeOfReferenceCodeSequence = "113076", [code]
    dataset = pydicom.dcmread(tmp_path / "0001.dcm")
    dataset.SourceImageSequence = [image, image]
    dataset.save_as(tmp_path / "0001.dcm")
    return tmp_path / "0001.dcm"


def problem(path: Path) -> str:
    with pytest.raises(Damaged) as error:
        pixels_of(path)
    return str(error.value)


def resave(path: Path, syntax: str, undefined_length: bool) -> None:
    dataset = pydicom.dcmread(path)
    dataset["SourceImageSequence"].is_undefined_length = undefined_length
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined_length", [False, True])
def test_plain_pixels_are_counted(path, syntax, undefined_length):
    resave(path, syntax, undefined_length)
    assert pixels_of(path).size == PIXELS


def test_run_lengths_are_counted_unpacked(path):
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    assert pixels_of(path).size == PIXELS


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("CT_small.dcm", 32768),
        ("MR_small_bigendian.dcm", 8192),
        ("MR_small_implicit.dcm", 8192),
        ("MR_small_RLE.dcm", 8192),
        ("MR_small_jp2klossless.dcm", None),
        ("MR_small_jpeg_ls_lossless.dcm", None),
        ("badVR.dcm", 6000),
    ],
)
def test_files_of_other_writers_are_sound(name, found):
    assert pixels_of(Path(get_testdata_file(name, download=False))).size == found


def test_a_file_cut_anywhere_is_refused(path):
    whole = path.read_bytes()
    for size in range(132, len(whole)):
        path.write_bytes(whole[:size])
        assert problem(path).startswith("it ")


@pytest.mark.parametrize(
    ("found", "put", "sentence"),
    [
        (b"\x28\0\x10\0US\2\0", b"\x28\0\x10\0US\2\xff", "it is cut off or damaged"),  # Rows, of 65282 bytes
        (b"\x28\0\x10\0US\2\0", b"\x28\0\x10\0QQ\2\0", "it is damaged"),  # of no known VR
        (b"OW\0\0" + struct.pack("<I", PIXELS), b"OW\0\0\xfe\xff\xff\xff", "it is cut off or damaged"),
        (b"OW\0\0" + struct.pack("<I", PIXELS), b"OW\0\0\xff\xff\xff\xff", "it is cut off"),
        (b"SH\6\x00113076", b"UT\0\0\0\0\0\x4076", "it is cut off or damaged"),  # within an item
        (ExplicitVRLittleEndian.encode() + b"\0", RLELossless.encode() + b"\0", "it holds pixels in another form"),
        (b"\xe0\x7f\x10\0OW", b"\xe0\x7f\x11\0OW", "it holds no pixels"),
    ],
)
def test_damaged_elements_are_refused(path, found, put, sentence):
    data = path.read_bytes()
    assert data.count(found) >= 1 and len(found) == len(put)
    path.write_bytes(data.replace(found, put))
    assert problem(path).startswith(sentence)


def test_what_follows_the_pixels_is_checked_too(path):
    data = path.read_bytes()
    path.write_bytes(data + bytes(100))  # padding
    assert pixels_of(path).size == PIXELS
    path.write_bytes(data + b"\xfe\xff\0\xe0\0\0\0\0")
    assert problem(path) == "it is damaged"


def test_sequences_within_each_other_have_an_end(path):
    data = path.read_bytes()
    endless = (b"\x08\0\x12\x21SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff") * 5000
    path.write_bytes(data + endless)
    assert problem(path) == "it is damaged"
