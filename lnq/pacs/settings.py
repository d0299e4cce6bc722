"""The node's settings, a TOML file."""

from __future__ import annotations

import ipaddress
import math
import os
import re
import ssl
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnq.errors import StartError
from lnq.plain import check_types, from_plain
from lnq.results.case_record import ResultOptions

RESULTS = ("seg", "rtstruct", "sr", "captures", "pdf")
_STORE = re.compile(r"(?P<title>[^@]{1,16})@(?P<host>[^@:]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})")
_KINDS = ("store", "stow", "folder")


@dataclass(frozen=True)
class Caller:
    """Who may send studies."""

    ae_title: str
    address: str = ""  # IP address that it calls from; any where empty


@dataclass(frozen=True)
class Tls:
    """Certificates, PEM files."""

    certificate: Path  # the node's own
    key: Path
    ca: Path  # who signs those of callers and destinations; a caller must show one


@dataclass(frozen=True)
class To:
    """Where results go: exactly one of `store`, `stow` and `folder`."""

    store: str = ""  # AE_TITLE@HOST:PORT
    stow: str = ""  # address of a DICOMweb service, to which /studies is added
    folder: Path | None = None
    commitment: bool = False  # of `store`: results have arrived once storage commitment says so
    tls: bool = False  # of `store`
    token: str = ""  # of `stow`: name of the environment variable that holds a bearer token

    @property
    def name(self) -> str:
        """What it is called in messages and on disk."""
        return self.store or self.stow or str(self.folder)


@dataclass(frozen=True)
class StoreAddress:
    """A destination of C-STORE."""

    ae_title: str
    host: str
    port: int


@dataclass(frozen=True)
class NodeSettings:
    """All settings of a node."""

    spool: Path  # folder of the queue
    to: tuple[To, ...]
    callers: tuple[Caller, ...] = ()  # without one no port is open
    watch: Path | None = None  # folder from which studies are taken too
    ae_title: str = "LNQ"
    host: str = "127.0.0.1"  # address to listen on
    port: int = 11112
    results: tuple[str, ...] = ("seg", "sr")  # of RESULTS
    quiet_seconds: float = 30.0  # a study is complete when so long none of its objects came
    least_free_gb: float = 5.0  # nothing is taken where the disk would have less room
    keep_hours: float = 24.0  # objects of a study that has ended wait so long for late ones
    associations: int = 10  # at a time
    time_limit: float = 1800.0  # seconds that a study may take
    tls: Tls | None = None
    network_timeout: float = 30.0  # seconds that a peer may be silent

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("quiet_seconds", "least_free_gb", "keep_hours", "time_limit", "network_timeout"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number from 0 on, not {getattr(self, name)}")
        if self.network_timeout < 1:
            raise ValueError(f"network_timeout must be at least 1, not {self.network_timeout}")
        if not self.to:
            raise ValueError("there is no [[to]]: results would go nowhere")
        if not self.callers and self.watch is None:
            raise ValueError("there is neither [[from]] nor watch: nothing would come in")
        if not 0 < self.port < 65536:
            raise ValueError(f"port must be from 1 to 65535, not {self.port}")
        if self.associations < 1:
            raise ValueError(f"associations must be at least 1, not {self.associations}")
        if not self.results or not set(self.results) <= set(RESULTS):
            raise ValueError(f"results must name some of {', '.join(RESULTS)}")
        if {"seg", "rtstruct"} <= set(self.results) and "sr" not in self.results:
            raise ValueError("results with both seg and rtstruct need sr too, which refers to seg")
        for title in (self.ae_title, *(caller.ae_title for caller in self.callers)):
            if not 0 < len(title.strip()) <= 16:
                raise ValueError(f"an AE title has 1 to 16 characters, not {title!r}")
        for caller in self.callers:
            if caller.address:
                ipaddress.ip_address(caller.address)
        for to in self.to:
            self._check(to)
        names = [to.name for to in self.to]
        if len(set(names)) < len(names):
            raise ValueError("two [[to]] are the same")

    def _check(self, to: To) -> None:
        if sum(bool(getattr(to, kind)) for kind in _KINDS) != 1:
            raise ValueError("each [[to]] needs one of store, stow and folder")
        if to.store:
            store_address(to)
        if to.stow and not to.stow.startswith(("http://", "https://")):
            raise ValueError(f"stow must begin with http:// or https://, not {to.stow}")
        if to.token and not os.environ.get(to.token):
            raise ValueError(f"the environment variable {to.token} is not set")
        if to.commitment and not (to.store and self.callers):
            raise ValueError("commitment needs store, and a [[from]]: the answer comes to the node's port")
        if to.tls and self.tls is None:
            raise ValueError(f"{to.name} wants TLS, and there is no [tls]")

    @property
    def options(self) -> ResultOptions:
        """The results in the terms of `lnq batch`."""
        return result_options(self.results)


def result_options(results: Sequence[str]) -> ResultOptions:
    """Some of RESULTS in the terms of `lnq batch`, without pictures and pages."""
    return ResultOptions(
        format="rtstruct" if "rtstruct" in results else "dicom-seg",
        sr="sr" in results,
        captures="captures" in results,
        pdf="pdf" in results,
        preview=False,
        page=False,
    )


def store_address(to: To) -> StoreAddress:
    """The parts of AE_TITLE@HOST:PORT. Raises ValueError."""
    found = _STORE.fullmatch(to.store)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ValueError(f"store must be AE_TITLE@HOST:PORT, not {to.store}")
    return StoreAddress(found["title"], found["host"].strip("[]"), int(found["port"]))


def read_settings(path: Path, watch: Path | None = None) -> NodeSettings:
    """Read a node's settings. `watch` replaces the file's. Raises StartError with the reason."""
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartError(f"{path} is not TOML: {error}") from None
    try:
        if "callers" in table:
            raise ValueError("unknown entry 'callers'")
        plain: dict[str, Any] = {"to": [], **table, "callers": table.get("from", [])}
        plain.pop("from", None)
        if watch is not None:
            plain["watch"] = watch
        return from_plain(NodeSettings, plain)
    except (ValueError, TypeError, AttributeError) as error:
        raise StartError(f"{path} cannot be used: {_readable(error)}") from None


def _readable(error: Exception) -> str:
    missing = re.search(r"missing \d+ required positional arguments?: '(\w+)'", str(error))
    return f"{missing[1]} is missing" if missing else str(error)


def server_context(tls: Tls) -> ssl.SSLContext:
    """TLS of the node's port: a caller must show a certificate that the CA has signed. Raises StartError."""
    return _context(tls, ssl.Purpose.CLIENT_AUTH)


def client_context(tls: Tls) -> ssl.SSLContext:
    """TLS towards a destination, whose certificate the CA must have signed. Raises StartError."""
    return _context(tls, ssl.Purpose.SERVER_AUTH)


def _context(tls: Tls, purpose: ssl.Purpose) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=str(tls.ca))
        context.load_cert_chain(str(tls.certificate), str(tls.key))
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"The certificates of [tls] cannot be used: {error}") from None
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
