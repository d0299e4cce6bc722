"""The recipe with Orthanc: its files fit each other and what the node reads."""

from __future__ import annotations

import json

import yaml
from helpers.paths import ROOT

from lnq.pacs.settings import read_settings, store_address

RECIPE = ROOT / "container" / "orthanc"


def test_the_files_of_the_recipe_fit_each_other():
    settings = read_settings(RECIPE / "node.toml")
    orthanc = json.loads((RECIPE / "orthanc.json").read_text())
    services = yaml.safe_load((RECIPE / "compose.yaml").read_text())["services"]
    [to], [caller] = settings.to, settings.callers
    address = store_address(to)
    assert (address.ae_title, address.port) == (orthanc["DicomAet"], orthanc["DicomPort"]) and address.host in services
    assert caller.ae_title == orthanc["DicomAet"]
    modality = orthanc["DicomModalities"]["lnq"]
    assert (modality["AET"], modality["Port"]) == (settings.ae_title, settings.port) and modality["Host"] in services
    mounted = [volume.split(":")[1] for service in services.values() for volume in service["volumes"]]
    assert str(settings.spool) in mounted and set(orthanc["LuaScripts"]) <= set(mounted)
    assert services["lnq"]["command"] == ["node", "/etc/lnq/node.toml"] and "/etc/lnq/node.toml" in mounted


def test_no_port_of_the_recipe_is_open_to_other_machines():
    services = yaml.safe_load((RECIPE / "compose.yaml").read_text())["services"]
    assert "ports" not in services["lnq"]
    assert all(port.startswith("127.0.0.1:") for port in services["orthanc"]["ports"])
