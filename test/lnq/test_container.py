import pytest

from lnq.container import find_inputs


@pytest.mark.parametrize(("header", "voxels"), [("a.mhd", "a.zraw"), ("a.nhdr", "a.raw.gz"), ("a.b.nhdr", "a.b.raw")])
def test_header_and_voxel_file_are_one_input(tmp_path, header, voxels):
    for name in (header, voxels, "other.raw.gz", ".hidden.mha"):
        (tmp_path / name).write_bytes(b"\0")
    assert [c.path.name for c in find_inputs(tmp_path)] == [header, "other.raw.gz"]
