from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from container.check_image import API_LABEL, main

CODE = {
    "opt/algorithm/process.py": (0o644, 0),
    "opt/algorithm/lnq/a.py": (0o644, 0),
    "opt/algorithm/model/b": (0o444, 0),
}
SYSTEM = {"usr/bin/su": (0o4755, 0), "etc/passwd": (0o644, 0)}


def tar(members: dict[str, bytes], modes: dict[str, tuple[int, int]] | None = None) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode, info.uid = (modes or {}).get(name, (0o644, 0))
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def layer(files: dict[str, tuple[int, int]]) -> bytes:
    return tar(dict.fromkeys(files, b"text"), files)


def saved(
    folder: Path,
    layers: list[dict[str, tuple[int, int]]],
    config: dict[str, Any] | None = None,
    images: int = 1,
    architecture: str = "amd64",
    compressed: bool = False,
) -> Path:
    """An image as `docker save` writes it."""
    given = {"Labels": {API_LABEL: "invoke"}, "Env": ["PATH=/bin", "LNQ_API_METHOD=invoke"]}
    config = {"User": "10001:10001", "Entrypoint": ["python", "process.py"]} | given | (config or {})
    document = json.dumps({"architecture": architecture, "os": "linux", "config": config}).encode()
    name = f"blobs/sha256/{hashlib.sha256(document).hexdigest()}"
    parts = {f"blobs/sha256/{number:064x}": layer(files) for number, files in enumerate(layers)}
    manifest = [{"Config": name, "RepoTags": ["lnq"], "Layers": list(parts)}] * images
    data = tar(parts | {name: document, "manifest.json": json.dumps(manifest).encode()})
    path = folder / "image.tar"
    path.write_bytes(gzip.compress(data) if compressed else data)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_sound_image_passes_with_its_facts(tmp_path, capsys, compressed):
    path = saved(tmp_path, [SYSTEM, {"usr/bin/su": (0o755, 0)}, CODE], compressed=compressed)
    assert main([str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == f"{path} passes the checks at upload\n"
    assert out.splitlines() == [
        "user: 10001:10001",
        "platform: linux/amd64",
        "entrypoint: ['python', 'process.py']",
        "api_method: invoke",
        f"archive_bytes: {path.stat().st_size}",
        "image_bytes: 24",  # six files of four bytes
    ]


def test_a_layer_may_take_away_what_one_below_has(tmp_path):
    below = [SYSTEM, CODE | {"opt/algorithm/test/a.py": (0o644, 0)}]
    above = {"usr/bin/.wh.su": (0o644, 0), "opt/algorithm/test/.wh..wh..opq": (0o644, 0)}
    assert main([str(saved(tmp_path, [*below, above]))]) == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"images": 2}, "The archive must hold one image, not 2"),
        ({"config": {"User": ""}}, "The image must run as a user that is not root, not as ''"),
        ({"config": {"User": "root"}}, "The image must run as a user that is not root, not as 'root'"),
        ({"config": {"User": "0:10"}}, "The image must run as a user that is not root, not as '0:10'"),
        ({"config": {"Entrypoint": None}}, "The image has no entrypoint"),
        (
            {"config": {"Labels": {API_LABEL: "call"}}},
            "The label org.grand-challenge.api-method must be one of exec, invoke, not 'call'",
        ),
        (
            {"config": {"Labels": None}},
            "The label org.grand-challenge.api-method says exec, but LNQ_API_METHOD is invoke",
        ),
        (
            {"config": {"Env": []}},
            "The label org.grand-challenge.api-method says invoke, but LNQ_API_METHOD is exec",
        ),
        ({"architecture": "arm64"}, "The image must be for linux/amd64, not linux/arm64"),
        ({"layers": [SYSTEM, CODE]}, "/usr/bin/su is setuid or setgid"),
        ({"layers": [{}]}, "There is no /opt/algorithm/process.py"),
        (
            {"layers": [CODE, {"opt/algorithm/lnq/a.py": (0o646, 0)}]},
            "/opt/algorithm/lnq/a.py can be changed by others than root",
        ),
        (
            {"layers": [CODE, {"opt/algorithm/model/b": (0o644, 10001)}]},
            "/opt/algorithm/model/b can be changed by others than root",
        ),
        (
            {"layers": [CODE, {"opt/algorithm/training/c.py": (0o644, 0)}]},
            "/opt/algorithm/training does not belong there",
        ),
    ],
)
def test_what_the_platform_or_a_careful_user_would_refuse_is_named(tmp_path, capsys, options, sentence):
    assert main([str(saved(tmp_path, **({"layers": [CODE]} | options)))]) == 1
    assert capsys.readouterr().err == sentence + "\n"


def test_an_archive_that_is_too_large_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("container.check_image.LARGEST_BYTES", 1000)
    path = saved(tmp_path, [CODE])
    assert main([str(path)]) == 1
    assert capsys.readouterr().err == "The archive must be under 10 GB, not 0.0 GB\n"


@pytest.mark.parametrize(
    "data",
    [b"", b"text", gzip.compress(b"text"), tar({"manifest.json": b"[{}]"})],
    ids=["empty", "text", "packed text", "an archive"],
)
def test_what_is_no_saved_image_is_named(tmp_path, capsys, data):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(data)
    assert main([str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"{path} is no saved image: ")
