"""A real Orthanc for tests: Debian's packages orthanc and orthanc-dicomweb."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from helpers.pacs import free_port, wait_for

PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGINS = Path("/usr/share/orthanc/plugins")


@dataclass
class Orthanc:
    """An Orthanc of the AE title ORTHANC, with its data in a folder. It knows the node as modality `lnq`."""

    folder: Path
    node_port: int
    more: dict[str, Any] = field(default_factory=dict)  # settings
    port: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.mkdir(exist_ok=True)
        settings = {
            "Name": "test", "DicomAet": "ORTHANC", "DicomPort": self.port, "HttpPort": self.http,
            "StorageDirectory": str(self.folder / "data"), "IndexDirectory": str(self.folder / "data"),
            "Plugins": [str(PLUGINS)], "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
            "DicomModalities": {"lnq": ["LNQ", "127.0.0.1", self.node_port]}, "DicomAlwaysAllowStore": True,
            "ConcurrentJobs": 8, "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, "JobsHistorySize": 1000,
        } | self.more  # fmt: skip
        (self.folder / "orthanc.json").write_text(json.dumps(settings))
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen([PROGRAM, self.folder / "orthanc.json"], stdout=log, stderr=log)
        wait_for(self._answers)

    def _answers(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self.http}/system", timeout=5).ok
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    @property
    def dicom_web(self) -> str:
        """The address of its DICOMweb service."""
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def raw(self, path: str) -> bytes:
        """The bytes that it answers to GET."""
        answer = requests.get(f"http://127.0.0.1:{self.http}/{path}", timeout=30)
        answer.raise_for_status()
        return answer.content

    def get(self, path: str) -> Any:
        """The JSON that it answers to GET."""
        return json.loads(self.raw(path))

    def upload(self, paths: list[Path]) -> str:
        """Give it DICOM files of one study; returns its name of the study."""
        for path in paths:
            answer = requests.post(f"http://127.0.0.1:{self.http}/instances", path.read_bytes(), timeout=30)
            answer.raise_for_status()
        return str(answer.json()["ParentStudy"])

    def send(self, study: str) -> str:
        """Have it send a study to the node; returns the job."""
        answer = requests.post(
            f"http://127.0.0.1:{self.http}/modalities/lnq/store",
            json={"Resources": [study], "Asynchronous": True},
            timeout=30,
        )
        answer.raise_for_status()
        return str(answer.json()["ID"])

    def resend(self, study: str) -> None:
        """Have it send a study again and again until that succeeds, as a PACS does."""
        end = time.monotonic() + 300
        while time.monotonic() < end:
            job = self.send(study)
            wait_for(lambda: self.get(f"jobs/{job}")["State"] in ("Success", "Failure"), 120)  # noqa: B023
            if self.get(f"jobs/{job}")["State"] == "Success":
                return
            time.sleep(0.5)
        raise AssertionError("The study could not be sent")

    def instances(self, study: str) -> dict[str, list[str]]:
        """Its names of a study's instances, by modality."""
        found = dict[str, list[str]]()
        for one in self.get(f"studies/{study}/series"):
            found.setdefault(one["MainDicomTags"]["Modality"], []).extend(one["Instances"])
        return found

    def results(self, study: str) -> list[str]:
        """Modalities of all series of a study but its CT, one for each instance."""
        of_instances = [[name] * len(ones) for name, ones in self.instances(study).items() if name != "CT"]
        return sorted(name for names in of_instances for name in names)
