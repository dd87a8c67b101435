"""`anyview doctor`: versions, devices, folders, extras, known clashes; each as ok or warn, with the cure."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.text import Text

from anyview.config import parse_command
from anyview.console import make_console, make_table, print_json
from anyview.data.roots import cache_root, data_root
from anyview.extras import extras, requirements
from anyview.plugins import first_line, host
from anyview.tolerance import extension_error, tolerate_torchaudio

MEANING = {"tensorboard": "a run's metrics.jsonl has all metrics; only `--logger tensorboard` needs it"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. found: what is there. cure: what to do, for a warning; what it means, where that helps."""

    topic: str
    name: str
    found: str
    ok: bool = True
    cure: str = ""

    def as_dict(self) -> dict[str, str]:
        """Its fields for JSON, with a status "ok" or "warn"."""
        status = "ok" if self.ok else "warn"
        return {"topic": self.topic, "name": self.name, "status": status, "found": self.found, "cure": self.cure}


def doctor(*, json: bool = False) -> None:
    """Look at versions, devices, folders, extras and known clashes, and say what to do about each that is not well.

    Args:
        json: Print JSON for other programs.
    """
    findings = examine()
    if json:
        print_json([finding.as_dict() for finding in findings])
        return
    console = make_console()
    table = make_table("", "", "found", "status", "to know")
    topic = ""
    for finding in findings:
        status = Text("ok", style="green") if finding.ok else Text("warn", style="bold yellow")
        table.add_row(
            Text(finding.topic if finding.topic != topic else "", style="bold"), finding.name, finding.found, status, finding.cure
        )
        topic = finding.topic
    console.print(table)
    warnings = sum(not finding.ok for finding in findings)
    console.print(f"\n{warnings} thing{'s' * (warnings != 1)} to look at" if warnings else "\neverything is well")


def run(arguments: list[str]) -> int:
    """The command; warnings are its content, not its failure."""
    doctor(**parse_command(doctor, arguments, "anyview doctor"))
    return 0


def examine() -> list[Finding]:
    """Everything that is looked at, in order."""
    parts: list[Callable[[], Iterator[Finding]]] = [versions, devices, folders, extra_packages, plugins, clashes]
    return [finding for part in parts for finding in part()]


def versions() -> Iterator[Finding]:
    """Python, and the packages that anyview always needs."""
    yield Finding("versions", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in requirements():
        cure = "" if package.enough else f"pip install '{package.name}{package.wanted}'"
        yield Finding("versions", package.name, package.found or "absent", package.enough, cure)


def devices() -> Iterator[Finding]:
    """Threads, CUDA and Apple devices that torch can use, and accelerators that it cannot."""
    torch, problem = attempt("torch")
    if torch is None:
        yield Finding(
            "devices", "torch", f"cannot be imported ({problem})", False, "install torch again, as pytorch.org says for this machine"
        )
        return
    yield Finding("devices", "cpu", f"{torch.get_num_threads()} threads of {os.cpu_count()} processors")
    yield cuda(torch, driver=shutil.which("nvidia-smi") is not None)
    if platform.system() == "Darwin":
        yield Finding("devices", "mps", "available" if torch.backends.mps.is_available() else "not available")


def cuda(torch: Any, *, driver: bool) -> Finding:
    """What torch makes of CUDA. driver: whether the machine has NVIDIA's driver."""
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(device) for device in range(torch.cuda.device_count()))
        return Finding("devices", "cuda", f"{torch.version.cuda}: {names}")
    if driver and torch.version.cuda is None:
        cure = "this torch is built without CUDA; install the CUDA build that pytorch.org names to use the GPU"
        return Finding("devices", "cuda", "a driver, and a torch that cannot use it", False, cure)
    if driver:
        cure = f"the driver may be too old for CUDA {torch.version.cuda}, or no GPU visible ($CUDA_VISIBLE_DEVICES); see `nvidia-smi`"
        return Finding("devices", "cuda", "a driver, and no device that torch can use", False, cure)
    return Finding("devices", "cuda", "none; everything runs on the CPU")


def folders() -> Iterator[Finding]:
    """The folder that data is read from, and the one that derived files go to."""
    root = data_root()
    if root.is_dir():
        readable = os.access(root, os.R_OK | os.X_OK)
        yield Finding("folders", "data root", str(root), readable, "" if readable else f"it cannot be read; chmod u+rx {root}")
    else:
        cure = "named data sets are looked for there: make it or set $ANYVIEW_DATA; paths and embedded sets work without"
        yield Finding("folders", "data root", f"{root} does not exist", False, cure)
    cache = cache_root()
    state = "" if cache.is_dir() else " (made when it is needed)"
    writable = can_write(cache)
    yield Finding(
        "folders",
        "cache root",
        f"{cache}{state}",
        writable,
        "" if writable else "it cannot be written; set $ANYVIEW_CACHE to a folder that can",
    )


def can_write(folder: Path) -> bool:
    """Whether a folder is writable or, where it does not exist, can be made."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def extra_packages() -> Iterator[Finding]:
    """Which extras are complete."""
    for extra in extras():
        found = ", ".join(f"{package.name} {package.found}" for package in extra.packages if package.enough)
        lacks = f"without {', '.join(extra.lacks)}" if extra.lacks else ""
        cure = f"pip install '{extra.install}'" if extra.lacks else ""
        meaning = MEANING.get(extra.name, "") if extra.lacks else ""
        yield Finding(
            "extras", extra.name, ", ".join(filter(None, (found, lacks))), not extra.lacks, "; ".join(filter(None, (cure, meaning)))
        )


def plugins() -> Iterator[Finding]:
    """The installed plugins."""
    for report in host().reports:
        yield Finding("plugins", report.name, f"{report.distribution} {report.version}", report.status == "ok", report.problem)


def clashes() -> Iterator[Finding]:
    """Packages that are known to break others."""
    yield torchaudio()
    yield torchvision()


def torchaudio() -> Finding:
    """Whether torchaudio imports, and with its native extension."""
    if find_spec("torchaudio") is None:
        return Finding("clashes", "torchaudio", "absent; only sound needs it")
    tolerate_torchaudio()
    module, problem = attempt("torchaudio")
    if module is None:
        cure = "transformers fails with it; install the torchaudio that belongs to this torch, or uninstall it"
        return Finding("clashes", "torchaudio", f"cannot be imported ({problem})", False, cure)
    error = extension_error()
    if error is not None:
        cure = (
            "spectrograms, resampling and models work within anyview; rnnt_loss and forced_align do not, and other programs cannot import "
            "torchaudio or transformers: install the torchaudio built for this torch, or uninstall it"
        )
        return Finding("clashes", "torchaudio", f"{module.__version__} without its native extension ({first_line(error)})", False, cure)
    return Finding("clashes", "torchaudio", f"{module.__version__} with its native extension")


def torchvision() -> Finding:
    """Whether a torchvision that is there imports; anyview does without."""
    if find_spec("torchvision") is None:
        return Finding("clashes", "torchvision", "absent; nothing needs it")
    module, problem = attempt("torchvision")
    if module is None:
        cure = "packages that import it fail; install the torchvision that belongs to this torch, or uninstall it"
        return Finding("clashes", "torchvision", f"cannot be imported ({problem})", False, cure)
    return Finding("clashes", "torchvision", module.__version__)


def attempt(module: str) -> tuple[Any, str]:
    """A module and "", or None and why it cannot be imported; a broken native library raises what it likes."""
    try:
        return importlib.import_module(module), ""
    except Exception as error:
        return None, first_line(error)
