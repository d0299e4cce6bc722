"""The command `lnq`: `batch`, `compare`, `node`, `mercure`, `info`, and the challenge's container, `exec` or `serve`.

Exit status: 0 all done, 1 some case failed, 2 nothing could start, 130 interrupted, 141 the reader of the output has
ended, 143 terminated. The last line on stderr is one sentence that says what happened and why.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from lnq.batch import command as batch_command
from lnq.errors import BROKEN_PIPE, DONE, INTERRUPTED, NOT_STARTED, SOME_FAILED, TERMINATED, BundleError, StartError
from lnq.followup import command as followup_command
from lnq.inference.bundle import default_bundle
from lnq.inference.spec import MIRRORINGS, ModelSpec
from lnq.text import on_one_line, start_logging
from lnq.version import __version__

if TYPE_CHECKING:
    from lnq.inference.backends import Model

PROGRAM = "lnq"
API_METHODS = {"exec": "exec", "invoke": "serve"}  # what the platform calls them, and the commands here
API_VARIABLES = ("GRAND_CHALLENGE_COMPONENT_API_METHOD", "LNQ_API_METHOD")  # set by the platform, and by the image
HOST_VARIABLE = "LNQ_HOST"
MERCURE_VARIABLE = "MERCURE_IN_DIR"  # set by the router mercure

logger = logging.getLogger(__name__)


class Terminated(BaseException):
    """The process received SIGTERM."""


def terminate(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGTERM. Without a handler a container's first process would ignore it and not end."""
    raise Terminated


def main(arguments: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Run a command line; returns the exit status. `lnq` alone shows its help; `process.py` alone is the container."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words and program == PROGRAM:
        parser(program).print_help(sys.stderr)
        return NOT_STARTED
    options = parser(program).parse_args(words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may not be valid in any encoding
    start_logging(sys.stderr)
    logging.getLogger("lnq").setLevel(logging.INFO)
    try:
        status, sentence = options.command(options)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # rich turns BrokenPipeError into SystemExit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # discards what the buffer still holds
        status, sentence = BROKEN_PIPE, "Stopped: what read the output has ended; finished cases are kept"
    except (StartError, BundleError) as error:
        status, sentence = NOT_STARTED, str(error)
    except Exception as error:
        logging.exception("Unforeseen error")
        status, sentence = NOT_STARTED, f"Stopped by an unforeseen {type(error).__name__}: {error}"
    except (KeyboardInterrupt, Terminated) as stop:
        status = TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
        sentence = "Stopped by a signal: finished cases are kept"
    with suppress(BrokenPipeError):  # the exit status still tells the outcome
        print(on_one_line(sentence), file=sys.stderr, flush=True)
    return status


def parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """The parser of the command line. Without a command the program runs as the container."""
    top = argparse.ArgumentParser(
        prog=program,
        description="Segment mediastinal lymph nodes in chest CTs. Without a command: as the grand-challenge "
        "container, exec or serve by what the environment says, else exec.",
    )
    _add_folders(top, Path("/input"), Path("/output"))
    _add_model_options(top, None, "auto", "auto", None, None)
    top.add_argument("--version", action="version", version=f"lnq {__version__}")
    top.set_defaults(command=container)
    commands = top.add_subparsers(metavar="COMMAND")

    batch_ = commands.add_parser("batch", help="segment files and DICOM folders")
    batch_command.add_options(batch_)
    _add_model_options(batch_, *[argparse.SUPPRESS] * 5)
    batch_.set_defaults(command=batch)

    compare_ = commands.add_parser("compare", help="two CTs of one patient: which node is which, and how it changed")
    followup_command.add_options(compare_)
    _add_model_options(compare_, *[argparse.SUPPRESS] * 5)
    compare_.set_defaults(command=compare)

    exec_ = commands.add_parser("exec", help="segment every CT in INPUT/images/mediastinal-ct, and end")
    exec_.set_defaults(command=execute)
    serve_ = commands.add_parser("serve", help="do so whenever POST /invoke asks for it; GET /health tells when ready")
    serve_.add_argument("--host", help="address to listen on (default: LNQ_HOST, else 127.0.0.1, this machine alone)")
    serve_.add_argument("--port", type=int, help="port to listen on (default: 4743, the platform's)")
    serve_.set_defaults(command=serve)
    for command in (exec_, serve_):
        _add_folders(command, argparse.SUPPRESS, argparse.SUPPRESS)
        _add_model_options(command, *[argparse.SUPPRESS] * 5)

    _add_pacs(commands)
    info_ = commands.add_parser("info", help="bundle, backend, device and versions")
    _add_model_options(info_, *[argparse.SUPPRESS] * 5)
    info_.set_defaults(command=info)
    return top


def _add_pacs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    node_ = commands.add_parser("node", help="take studies from a PACS or a folder, and send results on")
    node_.add_argument("settings", type=Path, metavar="SETTINGS", help="TOML file")
    node_.add_argument("--watch", type=Path, metavar="DIR", help="take studies from this folder (default: the file's)")
    _add_model_options(node_, *[argparse.SUPPRESS] * 5)
    node_.set_defaults(command=node)

    mercure_ = commands.add_parser("mercure", help="a processing module of the DICOM router mercure")
    _add_model_options(mercure_, *[argparse.SUPPRESS] * 5)
    mercure_.set_defaults(command=mercure)


def _add_folders(parser: argparse.ArgumentParser, source: Path | str, output: Path | str) -> None:
    parser.add_argument("--input", type=Path, default=source, help="the container's input (default: /input)")
    parser.add_argument("--output", type=Path, default=output, help="the container's output (default: /output)")


def _add_model_options(
    parser: argparse.ArgumentParser,
    model: str | None,
    device: str,
    precision: str,
    mirror: str | None,
    members: str | None,
) -> None:
    """Add the options of the model, with these defaults.

    A command gets no defaults: they would override options given before the command.
    """
    parser.add_argument(
        "--model", type=Path, metavar="DIR", default=model, help="model bundle (default: the shipped one)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default=device)
    parser.add_argument(
        "--precision",
        choices=("auto", "f32", "int8"),
        default=precision,
        help="int8: the bundle's 8-bit networks, faster, on a CPU alone; f32: never that; auto: on a CPU with VNNI "
        "(default: auto)",
    )
    parser.add_argument(
        "--mirror",
        type=int,
        choices=MIRRORINGS,
        default=mirror,
        help="average over so many flips of each window, at so many times the network's time; 1: each is run once, "
        "every other one mirrored; 0: none is mirrored (default: the bundle's)",
    )
    parser.add_argument(
        "--members",
        type=int,
        metavar="N",
        default=members,
        help="run the first N networks of a bundle that holds several (default: all)",
    )


def container(options: argparse.Namespace) -> tuple[int, str]:
    """Run as the container that the environment asks for. Returns the exit status and the last sentence."""
    if os.environ.get(MERCURE_VARIABLE):
        return mercure(options)
    variable, method = next(((name, os.environ[name]) for name in API_VARIABLES if os.environ.get(name)), ("", "exec"))
    if method not in API_METHODS:
        raise StartError(f"{variable} must be exec or invoke, not {on_one_line(method)}")
    return serve(options) if API_METHODS[method] == "serve" else execute(options)


def execute(options: argparse.Namespace) -> tuple[int, str]:
    """Segment the CTs that grand-challenge mounted. Returns the exit status and the last sentence."""
    _need_challenge()
    from lnq.challenge.container import run_container

    failures = run_container(lambda: _load_and_say(options), options.input, options.output)
    if failures:
        return SOME_FAILED, batch_command.count_failures(failures)
    return DONE, f"All done: masks and results.json are in {options.output}"


def serve(options: argparse.Namespace) -> tuple[int, str]:
    """Segment whenever grand-challenge asks for it. It ends by a signal, which is raised."""
    _need_challenge()
    from lnq.challenge import server

    host = getattr(options, "host", None) or os.environ.get(HOST_VARIABLE) or server.HOST
    port = getattr(options, "port", None)
    server.serve(
        lambda: _load_and_say(options), options.input, options.output, host, server.PORT if port is None else port
    )
    raise AssertionError("The server ended by itself")


def _need_challenge() -> None:
    missing = [name for name in ("evalutils", "waitress") if find_spec(name) is None]
    if missing:
        raise StartError(f"The challenge's interface needs the package {missing[0]}: install the extra lnq[challenge]")


def batch(options: argparse.Namespace) -> tuple[int, str]:
    """Segment many cases into one folder. Returns the exit status and the last sentence."""
    return batch_command.run(options, _bundle(options))


def compare(options: argparse.Namespace) -> tuple[int, str]:
    """Compare two CTs of one patient. Returns the exit status and the last sentence."""
    return followup_command.run(options, _bundle(options))


def node(options: argparse.Namespace) -> tuple[int, str]:
    """Run a DICOM node. It ends by a signal, which is raised."""
    missing = [name for name in ("pynetdicom", "requests", "highdicom") if find_spec(name) is None]
    if missing:
        raise StartError(f"A DICOM node needs the package {missing[0]}: install the extra lnq[node]")
    from lnq.pacs.command import run as run_node

    run_node(options, _bundle(options))
    raise AssertionError("The node ended by itself")


def mercure(options: argparse.Namespace) -> tuple[int, str]:
    """Segment what the router mercure hands over. Returns the exit status and the last sentence."""
    if find_spec("highdicom") is None:
        raise StartError("DICOM results need the package highdicom: install the extra lnq[dicom]")
    from lnq.pacs.mercure import run as run_module

    return run_module(options, _bundle(options))


def info(options: argparse.Namespace) -> tuple[int, str]:
    """Print the bundle, backend, device and versions. Returns the exit status and the last sentence."""
    from importlib.metadata import PackageNotFoundError, version

    bundle = _bundle(options)
    spec, model = ModelSpec.load(bundle), _load(options)
    print(f"lnq         {__version__}, Python {sys.version.split()[0]}")
    print(f"bundle      {bundle}")
    for name, digest in spec.sha256.items():
        print(f"            {name} sha256 {digest[:16]}")
    print(f"network     channels {spec.network.channels}, patch {spec.patch}, spacing {spec.spacing_mm} mm")
    used = "" if model.spec.members == spec.members else f", the first {model.spec.members} used"
    print(f"members     {spec.members}{used}")
    print(f"threshold   {spec.threshold}, of a node's highest probability {spec.peak_threshold}")
    print(f"windows     {spec.window_step:g} of a patch apart, mirror {model.spec.mirror}")
    print(f"backend     {model.runs_on}")
    if model.note:
        print(f"            {model.note}")
    for package in ("numpy", "scipy", "SimpleITK", "pydicom", "openvino", "torch", "evalutils"):
        try:
            print(f"{package:<11} {version(package)}")
        except PackageNotFoundError:
            print(f"{package:<11} not installed")
    return DONE, "The model bundle is complete and loads"


def _bundle(options: argparse.Namespace) -> Path:
    """The bundle asked for, else the mounted or the shipped one."""
    return default_bundle() if options.model is None else options.model


def _load(options: argparse.Namespace) -> Model:
    from lnq.inference.backends import load_model

    try:
        return load_model(_bundle(options), options.device, None, options.precision, options.mirror, options.members)
    except ValueError as error:
        raise StartError(str(error)) from None


def _load_and_say(options: argparse.Namespace) -> Model:
    """Load the model, and say first of all what runs, and why it is not a GPU that is there."""
    model = _load(options)
    logger.info("Runs on %s", model.runs_on)
    if model.note:
        logger.warning("%s", model.note)
    return model


def run(program: str = PROGRAM) -> int:
    """Run the command as the process's main program, which SIGTERM ends cleanly. Returns the exit status."""
    signal.signal(signal.SIGTERM, terminate)
    return main(program=program)
