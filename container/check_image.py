"""Check a saved image (docker save, also compressed) as the platform does at upload, and more.

    python container/check_image.py lnq.tar.gz

The platform asks for one image, a user that is not root, linux/amd64, a file under 10 GB, and a label with an API
method that it knows. This script also asks for an entrypoint that does what the label says, no setuid or setgid file,
and nothing below /opt/algorithm that its user could change or that does not belong there. It prints a sentence for
each fault, and exits with status 1 where there is one. It needs only Python.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

LARGEST_BYTES = 10e9
LARGEST_DOCUMENT = 1 << 20  # bytes of a JSON file; a layer's first byte may look like JSON's
PROGRAM = "opt/algorithm"
PARTS = {"process.py", "lnq", "model", "__pycache__"}  # expected in the program's folder
API_LABEL, API_VARIABLE = "org.grand-challenge.api-method", "LNQ_API_METHOD"  # the platform reads the first, we both
API_METHODS = ("exec", "invoke")
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"  # names in a layer that delete files of lower layers


@dataclass
class Archive:
    """Content of a saved image: its JSON files, and the files of each layer, by their names in the archive."""

    documents: dict[str, Any]
    layers: dict[str, list[tarfile.TarInfo]]


def read_archive(file: IO[bytes]) -> Archive:
    """Read an archive in one pass, without unpacking it. Raises tarfile.TarError for another kind of file."""
    archive = Archive({}, {})
    with tarfile.open(fileobj=file, mode="r|*") as outer:
        for member in outer:
            content = outer.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            start = content.read(1)
            if start in (b"{", b"[") and member.size < LARGEST_DOCUMENT:
                archive.documents[member.name] = json.loads(start + content.read())
            else:
                archive.layers[member.name] = _members(_Rest(start, content))
    return archive


class _Rest:
    """A file whose first byte `start` was already read."""

    def __init__(self, start: bytes, file: IO[bytes]) -> None:
        self.start, self.file = start, file

    def read(self, size: int) -> bytes:
        start, self.start = self.start, b""
        return start + self.file.read(size - len(start))


def _members(file: _Rest) -> list[tarfile.TarInfo]:
    try:
        with tarfile.open(fileobj=file, mode="r|*") as layer:  # type: ignore[call-overload]
            return list(layer)
    except tarfile.ReadError:
        return []  # a blob that is not a layer


def merge(layers: list[list[tarfile.TarInfo]]) -> dict[str, tarfile.TarInfo]:
    """The files that a container sees, by path. Each layer adds files to the layers below, or deletes some."""
    files: dict[str, tarfile.TarInfo] = {}
    for layer in layers:
        for member in layer:
            path = os.path.normpath(member.name).lstrip("/")
            folder, name = os.path.split(path)
            if name.startswith(WHITEOUT):
                gone = folder if name == OPAQUE else os.path.join(folder, name.removeprefix(WHITEOUT))
                files = {p: m for p, m in files.items() if not _within(p, gone) or (p == gone and name == OPAQUE)}
        files |= {os.path.normpath(m.name).lstrip("/"): m for m in layer if WHITEOUT not in m.name}
    return files


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def check_archive(archive: Archive, size: int) -> tuple[list[str], dict[str, Any]]:
    """A sentence for each fault of the image, and facts about it. `size`: the archive's, in bytes."""
    manifest = archive.documents.get("manifest.json", [])
    if len(manifest) != 1:
        return [f"The archive must hold one image, not {len(manifest)}"], {}
    document = archive.documents[manifest[0]["Config"]]
    config = document["config"]
    files = merge([archive.layers[name] for name in manifest[0]["Layers"]])
    user, platform = str(config.get("User", "")), f"{document['os']}/{document['architecture']}"
    wrong = []
    if user.lower().split(":")[0] in ("", "0", "root"):
        wrong.append(f"The image must run as a user that is not root, not as {user!r}")
    if platform != "linux/amd64":
        wrong.append(f"The image must be for linux/amd64, not {platform}")
    if size > LARGEST_BYTES:
        wrong.append(f"The archive must be under 10 GB, not {size / 1e9:.1f} GB")
    if not config.get("Entrypoint"):
        wrong.append("The image has no entrypoint")
    label, runs_as = (config.get("Labels") or {}).get(API_LABEL, "exec"), _environment(config).get(API_VARIABLE, "exec")
    if label not in API_METHODS:
        wrong.append(f"The label {API_LABEL} must be one of {', '.join(API_METHODS)}, not {label!r}")
    elif runs_as != label:
        wrong.append(f"The label {API_LABEL} says {label}, but {API_VARIABLE} is {runs_as}")
    wrong += _wrong_files(files)
    facts = {
        "user": user,
        "platform": platform,
        "entrypoint": config.get("Entrypoint"),
        "api_method": label,
        "archive_bytes": size,
        "image_bytes": sum(m.size for layer in manifest[0]["Layers"] for m in archive.layers[layer]),
    }
    return wrong, facts


def _environment(config: dict[str, Any]) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in config.get("Env") or ())


def _wrong_files(files: dict[str, tarfile.TarInfo]) -> list[str]:
    wrong = [f"/{p} is setuid or setgid" for p, m in files.items() if m.isfile() and m.mode & 0o6000]
    program = {p: m for p, m in files.items() if _within(p, PROGRAM)}
    wrong += [f"/{p} can be changed by others than root" for p, m in program.items() if _is_writable(m)]
    parts = {p.split("/")[2] for p in program if p != PROGRAM}
    if "process.py" not in parts:
        wrong.append(f"There is no /{PROGRAM}/process.py")
    return wrong + [f"/{PROGRAM}/{name} does not belong there" for name in sorted(parts - PARTS)]


def _is_writable(member: tarfile.TarInfo) -> bool:
    return not member.issym() and (member.uid != 0 or bool(member.mode & 0o022))


def main(arguments: list[str]) -> int:
    """The command; returns its exit status."""
    if len(arguments) != 1:
        print("Usage: python container/check_image.py ARCHIVE", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    try:
        with open(path, "rb") as file:
            archive = read_archive(file)
        wrong, facts = check_archive(archive, path.stat().st_size)
    except (OSError, tarfile.TarError, EOFError, KeyError, ValueError) as error:
        print(f"{path} is no saved image: {error!r}", file=sys.stderr)
        return 1
    for name, value in facts.items():
        print(f"{name}: {value}")
    print("\n".join(wrong) if wrong else f"{path} passes the checks at upload", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
