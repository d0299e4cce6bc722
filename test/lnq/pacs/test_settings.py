"""The node's settings: what is read, and what is refused in which words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lnq.errors import StartError
from lnq.pacs.settings import Caller, StoreAddress, Tls, To, read_settings, server_context, store_address

WHOLE = """
spool = "/var/spool/lnq"
ae_title = "NODES"
host = "10.0.0.2"
port = 104
results = ["seg", "sr", "pdf"]
quiet_seconds = 60
watch = "/in"

[[from]]
ae_title = "PACS"
address = "10.0.0.5"

[[from]]
ae_title = "CT1"

[[to]]
store = "PACS@10.0.0.5:104"
commitment = true

[[to]]
stow = "https://pacs/dicom-web"
[[to]]
folder = "/out"
"""
LEAST = 'spool = "/s"\n[[from]]\nae_title = "A"\n[[to]]\nfolder = "/out"\n'


def read(tmp_path: Path, text: str, watch: Path | None = None):
    (tmp_path / "node.toml").write_text(text)
    return read_settings(tmp_path / "node.toml", watch)


def test_a_whole_file_is_read(tmp_path):
    settings = read(tmp_path, WHOLE)
    assert settings.callers == (Caller("PACS", "10.0.0.5"), Caller("CT1"))
    assert [to.name for to in settings.to] == ["PACS@10.0.0.5:104", "https://pacs/dicom-web", "/out"]
    assert (settings.host, settings.port, settings.ae_title, settings.quiet_seconds) == ("10.0.0.2", 104, "NODES", 60)
    assert settings.watch == Path("/in") and read(tmp_path, WHOLE, Path("/other")).watch == Path("/other")
    options = settings.options
    assert (options.format, options.sr, options.pdf, options.captures) == ("dicom-seg", True, True, False)
    assert not options.page and not options.preview


def test_by_default_only_this_machine_can_call(tmp_path):
    settings = read(tmp_path, LEAST)
    assert settings.host == "127.0.0.1" and settings.port == 11112 and settings.results == ("seg", "sr")


def test_rtstruct_is_the_mask_where_it_is_wanted(tmp_path):
    settings = read(tmp_path, 'results = ["rtstruct", "sr", "seg"]\n' + LEAST)
    assert settings.options.format == "rtstruct" and settings.options.sr


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("spool", "spoon"), "unknown entry 'spoon'"),
        (('spool = "/s"', ""), "spool is missing"),
        (('spool = "/s"', "spool = 3"), ".*"),
        (("[[to]]", "[to]"), ".*"),
        (('[[to]]\nfolder = "/out"', ""), r"there is no \[\[to\]\]: results would go nowhere"),
        (('[[from]]\nae_title = "A"', ""), r"there is neither \[\[from\]\] nor watch: nothing would come in"),
        (('ae_title = "A"', 'ae_title = ""'), "an AE title has 1 to 16 characters, not ''"),
        (
            ('ae_title = "A"', 'ae_title = "A"\naddress = "host"'),
            "'host' does not appear to be an IPv4 or IPv6 address",
        ),
        (("folder", 'store = "A@b:104"\nfolder'), r"each \[\[to\]\] needs one of store, stow and folder"),
        (('folder = "/out"', 'store = "b:104"'), "store must be AE_TITLE@HOST:PORT, not b:104"),
        (('folder = "/out"', 'store = "A@b:0"'), "store must be AE_TITLE@HOST:PORT, not A@b:0"),
        (('folder = "/out"', 'stow = "pacs"'), "stow must begin with http:// or https://, not pacs"),
        (('folder = "/out"', 'folder = "/o"\ncommitment = true'), "commitment needs store, and a .*"),
        (('folder = "/out"', 'store = "A@b:1"\ntls = true'), r"A@b:1 wants TLS, and there is no \[tls\]"),
        (('folder = "/out"', 'stow = "http://b"\ntoken = "LNQ_NONE"'), "the environment variable LNQ_NONE is not set"),
        (('[[to]]\nfolder = "/out"', '[[to]]\nfolder = "/o"\n[[to]]\nfolder = "/o"'), r"two \[\[to\]\] are the same"),
        (('spool = "/s"', 'spool = "/s"\nport = 70000'), "port must be from 1 to 65535, not 70000"),
        (('spool = "/s"', 'spool = "/s"\nport = "x"'), "port is 'x'"),
        (('spool = "/s"', 'spool = "/s"\nresults = ["png"]'), "results must name some of seg, rtstruct, sr, .*"),
        (
            ('spool = "/s"', 'spool = "/s"\nresults = ["seg", "rtstruct"]'),
            "results with both seg and rtstruct .*",
        ),
        (('spool = "/s"', 'spool = "/s"\nquiet_seconds = -1'), "quiet_seconds must be a number from 0 on, not -1"),
        (('spool = "/s"', 'spool = "/s"\nquiet_seconds = nan'), "quiet_seconds must be a number from 0 on, not nan"),
        (('spool = "/s"', 'spool = "/s"\nnetwork_timeout = 0'), "network_timeout must be at least 1, not 0"),
        (('spool = "/s"', 'spool = "/s"\nassociations = 0'), "associations must be at least 1, not 0"),
        (('spool = "/s"', 'spool = "/s"\ncallers = []'), "unknown entry 'callers'"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path, change, reason):
    assert change[0] in LEAST
    with pytest.raises(StartError, match=f"^{re.escape(str(tmp_path))}/node.toml cannot be used: {reason}$"):
        read(tmp_path, LEAST.replace(*change, 1))


def test_a_file_that_is_no_toml_is_said(tmp_path):
    with pytest.raises(StartError, match=r"node.toml is not TOML: "):
        read(tmp_path, "spool =")
    with pytest.raises(StartError, match=r"none.toml cannot be read: No such file or directory$"):
        read_settings(tmp_path / "none.toml")


def test_addresses_of_destinations():
    assert store_address(To(store="PACS 1@pacs.hospital:11112")) == StoreAddress("PACS 1", "pacs.hospital", 11112)
    assert store_address(To(store="P@[::1]:104")) == StoreAddress("P", "::1", 104)


def test_certificates_that_are_not_there_are_said(tmp_path):
    with pytest.raises(StartError, match=r"^The certificates of \[tls\] cannot be used: "):
        server_context(Tls(tmp_path / "a", tmp_path / "b", tmp_path / "c"))
