"""Damage that is done to bytes, whatever they mean."""

from __future__ import annotations

from helpers.fuzzing.inputs import Input, choose
from numpy.random import Generator

_NAMES = ("ct.mha", "ct.mhd", "ct.nrrd", "ct.nhdr", "ct.nii", "ct.nii.gz", "ct.dcm", "ct.txt", "ct")
_READ_ALIKE = (
    {"ct.nrrd", "ct.nhdr"}, {"ct.mha", "ct.mhd"}, {"ct.nii", "ct.nii.gz"}, {"ct.hdr", "ct.nii"},
    {"ct.hdr", "ct.nii.gz"},
)  # fmt: skip
_PREAMBLE = 132  # a shorter file is not seen to be DICOM


def flip_bytes(made: Input, rng: Generator) -> None:
    name = made.any_file(rng)
    data = bytearray(made.files[name])
    places = [_place(rng, len(data)) for _ in range(int(rng.integers(1, 20)))]
    for place in places:
        data[place] ^= int(rng.integers(1, 256))
    made.files[name] = bytes(data)
    made.spoil(f"bytes {sorted(places)} of {name} flipped")


def cut(made: Input, rng: Generator) -> None:
    name = made.any_file(rng)
    whole = made.files[name]
    length = _place(rng, len(whole))
    made.files[name] = whole[:length]
    is_missed = length < len(whole) - 1 if made.ct else length > _PREAMBLE  # a header's last line needs no break
    made.spoil(f"{name} cut to {length} bytes", hopeless=is_missed)


def cut_little(made: Input, rng: Generator) -> None:
    name = made.any_file(rng)
    less = int(rng.integers(2, 40))
    made.files[name] = made.files[name][:-less]
    made.spoil(f"{name} is {less} bytes shorter", hopeless=True)


def add_bytes(made: Input, rng: Generator) -> None:
    name = made.any_file(rng)
    more = rng.bytes(int(rng.integers(1, 5000))) if rng.random() < 0.5 else made.files[name]
    made.files[name] += more
    is_header = name.endswith(("mhd", "hdr"))
    made.spoil(f"{len(more)} bytes more at the end of {name}", hopeless=bool(made.ct) and not is_header)


def swap_chunks(made: Input, rng: Generator) -> None:
    name = made.any_file(rng)
    data = made.files[name]
    a, b, c = sorted(int(place) for place in rng.integers(0, len(data), 3))
    made.files[name] = data[:a] + data[b:c] + data[a:b] + data[c:]
    made.spoil(f"chunks {a}:{b} and {b}:{c} of {name} swapped")


def double_chunk(made: Input, rng: Generator) -> None:
    name = made.any_file(rng)
    data = made.files[name]
    start = _place(rng, len(data))
    stop = start + int(rng.integers(1, 5000))
    made.files[name] = data[:stop] + data[start:]
    made.spoil(f"chunk {start}:{stop} of {name} doubled")


def fill_chunk(made: Input, rng: Generator) -> None:
    name = made.any_file(rng)
    data = bytearray(made.files[name])
    start = _place(rng, len(data))
    chunk = slice(start, start + int(rng.integers(1, 2000)))
    value = choose(rng, (b"\0", b"\0", b"\xff", b"1", b"\n"))
    data[chunk] = value * len(data[chunk])
    made.files[name] = bytes(data)
    made.spoil(f"chunk {chunk.start}:{chunk.stop} of {name} filled with {value!r}")


def insert_noise(made: Input, rng: Generator) -> None:
    name = made.any_file(rng)
    place = _place(rng, len(made.files[name]))
    noise = rng.bytes(int(rng.integers(1, 300)))
    made.files[name] = made.files[name][:place] + noise + made.files[name][place:]
    made.spoil(f"{len(noise)} bytes of noise at {place} of {name}")


def replace_all(made: Input, rng: Generator) -> None:
    name = made.any_file(rng)
    size = choose(rng, (0, 1, 131, 132, 348, 4000))
    made.files[name] = rng.bytes(size)
    made.spoil(f"{name} is {size} bytes of noise", hopeless=bool(made.ct))


def rename(made: Input, rng: Generator) -> None:
    """Another format's extension; of a series one of its slices, as an image file."""
    old = made.ct or "0000.dcm"
    new = choose(rng, [name for name in _NAMES if name != old])
    made.files[new] = made.files.pop(old)
    made.ct = new
    made.spoil(f"{old} called {new}", hopeless={old, new} not in _READ_ALIKE)


def _place(rng: Generator, length: int) -> int:
    """A place in a file, among its first bytes every other time."""
    return int(rng.integers(min(length, 800) if rng.random() < 0.5 else length))


WAYS = [
    flip_bytes, flip_bytes, flip_bytes, cut, cut_little, add_bytes, swap_chunks, double_chunk, fill_chunk, insert_noise,
    replace_all, rename,
]  # fmt: skip
