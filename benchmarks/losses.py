"""Times and compares the losses that this library shares with lightly and stable-pretraining, and what two processes make of them.

    make bench-losses
    python benchmarks/losses.py --threads 2 --only barlow_twins vicreg --json losses.json

Three tables: forward and backward, timed in turn; value and gradient on equal inputs, and where they differ why, shown by taking the
difference away; and value and gradient of two processes with half of the rows each, against one process with all.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from shared_losses import CASES
from shared_losses.case import LIGHTLY, STABLE, Case, Form
from shared_losses.ranks import rank_exactness
from torch import Tensor

from anyview.console import make_console, make_table

EQUAL = 1e-5
OURS = "anyview"
SHORTEST = 0.01
Clock = Callable[[], float]


def run(form: Form, inputs: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
    """A form's value and its gradients to the inputs that require one."""
    value = form(*inputs)
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    return value.detach(), list(torch.autograd.grad(value, wanted)) if wanted else []


def compare(ours: Form, theirs: Form, inputs: tuple[Tensor, ...]) -> dict[str, float]:
    """Both values, their relative difference, and our gradient's against theirs: difference, cosine and ratio of norms."""
    (own, own_gradients), (other, other_gradients) = run(ours, inputs), run(theirs, inputs)
    scale = float(other.double().norm())
    found = {"difference": float((own.double() - other.double()).norm()) / scale if scale else float(own.norm())}
    if own.ndim == 0:
        found |= {"ours": float(own), "theirs": float(other)}
    if own_gradients:
        a, b = (torch.cat([part.flatten().double() for part in parts]) for parts in (own_gradients, other_gradients))
        found |= {
            "gradient_difference": float((a - b).norm() / b.norm()),
            "gradient_cosine": float(a @ b / (a.norm() * b.norm())),
            "gradient_ratio": float(a.norm() / b.norm()),
        }
    return found


def is_equal(found: dict[str, float]) -> bool:
    """Whether value and gradient are the same up to rounding; gradients are sums of many more rounded numbers."""
    return found["difference"] <= EQUAL and found.get("gradient_difference", 0.0) <= 10 * EQUAL


def agreement(case: Case) -> dict[str, dict[str, Any]]:
    """By library, the comparison; where a difference is stated, also the comparison without it, which must be equal."""
    found: dict[str, dict[str, Any]] = {}
    for theirs in case.theirs:
        compared: dict[str, Any] = compare(case.make(), theirs.make(), case.inputs)
        compared |= {"equal": is_equal(compared), "differs": theirs.differs}
        if theirs.alike is not None:
            ours, other = (make() for make in theirs.alike)
            compared["alike"] = compare(ours, other, case.inputs)
            compared["alike"]["equal"] = is_equal(compared["alike"])
        found[theirs.library] = compared
    return found


def timed(form: Form, inputs: tuple[Tensor, ...], loops: int, clock: Clock) -> float:
    """Seconds per forward and backward pass."""
    start = clock()
    for _ in range(loops):
        run(form, inputs)
    return (clock() - start) / loops


def measure(case: Case, seconds: float, repeats: int, clock: Clock) -> dict[str, list[float]]:
    """Seconds of every library's form, timed in turn, each round in another order, until the time is up; three rounds are always run."""
    forms = {OURS: case.make(), **{theirs.library: theirs.make() for theirs in case.theirs}}
    loops = {name: max(1, int(SHORTEST / max(timed(form, case.inputs, 1, clock), 1e-9))) for name, form in forms.items()}
    taken: dict[str, list[float]] = {name: [] for name in forms}
    names, start = list(forms), time.perf_counter()
    for number in range(repeats):
        if number >= 3 and time.perf_counter() - start > seconds:
            break
        for name in names[number % len(names) :] + names[: number % len(names)]:
            taken[name].append(timed(forms[name], case.inputs, loops[name], clock))
    return taken


def summary(taken: dict[str, list[float]], comparable: list[str]) -> dict[str, Any]:
    """Medians and quartile ranges in milliseconds, and by library that is comparable the median over rounds of their time over ours."""
    return {
        "milliseconds": {name: 1e3 * statistics.median(times) for name, times in taken.items()},
        "spread": {name: 1e3 * quartile_range(times) for name, times in taken.items()},
        "ratio": {name: statistics.median(t / o for t, o in zip(taken[name], taken[OURS], strict=True)) for name in comparable},
        "rounds": len(taken[OURS]),
    }


def quartile_range(values: list[float]) -> float:
    """Half of the distance between the quartiles."""
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return (third - first) / 2


def results(options: argparse.Namespace, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """A line for every case of the objectives asked for."""
    lines, clock = [], time.process_time if options.busy else time.perf_counter
    for name in options.only:
        torch.manual_seed(0)
        for case in CASES[name]():
            line: dict[str, Any] = {"objective": case.objective, "size": case.size, "values": agreement(case)}
            line |= summary(
                measure(case, options.seconds, options.repeats, clock), [theirs.library for theirs in case.theirs if theirs.comparable]
            )
            lines.append(line)
            report(f"{case.objective}, {case.size}: {min(line['ratio'].values()):.2f}")
            del case
            gc.collect()
    return lines


@dataclass(frozen=True)
class Numbers:
    """A table, for the terminal or as Markdown."""

    title: str
    columns: tuple[str, ...]
    lines: list[list[str]]

    def rich(self) -> Any:
        """For the terminal."""
        table = make_table(*self.columns, title=f"\n{self.title}")
        for line in self.lines:
            table.add_row(*line)
        return table

    def markdown(self) -> str:
        """For a page."""
        cells = [list(self.columns), ["---"] * len(self.columns), *self.lines]
        return f"{self.title}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def times(lines: list[dict[str, Any]]) -> Numbers:
    """The first table."""
    rows = []
    for line in lines:
        spent = [
            f"{line['milliseconds'][name]:.2f} ± {line['spread'][name]:.2f}" if name in line["milliseconds"] else ""
            for name in (OURS, LIGHTLY, STABLE)
        ]
        rows.append([line["objective"], line["size"], *spent, f"{min(line['ratio'].values()):.2f}"])
    return Numbers("Forward and backward, ms", ("objective", "size", OURS, LIGHTLY, STABLE, "faster of theirs / ours"), rows)


def values(lines: list[dict[str, Any]]) -> Numbers:
    """The second table."""
    rows = []
    for line in lines:
        for name, found in line["values"].items():
            rows.append([line["objective"], line["size"], name, *_numbers(found), _verdict(found)])
            if "alike" in found:
                rows.append(["", "", "without the difference", *_numbers(found["alike"]), _verdict(found["alike"])])
    columns = ("objective", "size", "library", "value, relative", "gradient, relative", "cosine", "ratio", "verdict")
    return Numbers("Ours against theirs on equal inputs", columns, rows)


def _numbers(found: dict[str, float]) -> list[str]:
    if "gradient_cosine" not in found:
        return [f"{found['difference']:.1e}", "", "", ""]
    numbers = [f"{found['difference']:.1e}", f"{found['gradient_difference']:.1e}"]
    return [*numbers, f"{found['gradient_cosine']:.5f}", f"{found['gradient_ratio']:.5f}"]


def _verdict(found: dict[str, Any]) -> str:
    if found["equal"]:
        return "equal"
    return "differs" if found.get("differs") else "NOT EQUAL"


def differences(lines: list[dict[str, Any]]) -> Numbers:
    """By objective and library (and its first size), what differs, by how much, and what is left of it without the stated difference."""
    rows: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        for name, found in line["values"].items():
            if found["differs"] and not found["equal"]:
                rest = found.get("alike", {"difference": math.nan, "gradient_difference": math.nan})
                left = f"{rest['difference']:.1e}, {rest['gradient_difference']:.1e}"
                numbers = [f"{found['difference']:.1e}", f"{found['gradient_cosine']:.4f}", f"{found['gradient_ratio']:.4f}"]
                rows.setdefault((line["objective"], name), [line["objective"], name, *numbers, left, found["differs"]])
    columns = ("objective", "library", "value, relative", "gradient cosine", "ratio", "left of value, of gradient", "what theirs does")
    return Numbers("Where theirs differs, and what is left when it does not", columns, list(rows.values()))


def equal_ones(lines: list[dict[str, Any]]) -> str:
    """How equal the rest is."""
    equal = [found for line in lines for found in line["values"].values() if found["equal"]]
    value, gradient = (max((found.get(key, 0.0) for found in equal), default=0.0) for key in ("difference", "gradient_difference"))
    return f"{len(equal)} comparisons are equal: values within {value:.1e}, gradients within {gradient:.1e}, relative."


def on_ranks(lines: list[dict[str, Any]]) -> Numbers:
    """The third table."""
    columns = ("objective", "library", "one process", "mean of two", "gradient ratio", "cosine", "exact")
    rows = []
    for line in lines:
        numbers = [f"{line['one']:.5f}", f"{line['two']:.5f}", f"{line['ratio']:.4f}", f"{line['cosine']:.4f}"]
        rows.append([line["objective"], line["library"], *numbers, "yes" if line["exact"] else "no"])
    return Numbers("Two processes with 32 rows each against one with 64", columns, rows)


def unexplained(lines: list[dict[str, Any]]) -> list[str]:
    """Comparisons that are not equal and whose stated difference, if any, does not make them so."""
    return [
        f"{line['objective']}, {line['size']}, {name}"
        for line in lines
        for name, found in line["values"].items()
        if not found["equal"] and not found.get("alike", {}).get("equal", False)
    ]


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """What the numbers hold for."""
    versions = {name: version(name) for name in ("torch", LIGHTLY, STABLE)}
    setting = {"threads": options.threads, "clock": "processor" if options.busy else "wall"}
    return {"versions": versions, **setting, "machine": platform.machine(), "python": platform.python_version()}


def main() -> None:
    """Command line; exit code 1 when two forms differ and nothing here says why."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), metavar="OBJECTIVE", help=", ".join(CASES))
    parser.add_argument("--seconds", type=float, default=10.0, help="time for the rounds of one case; three are always run")
    parser.add_argument("--repeats", type=int, default=25, help="most rounds of one case")
    parser.add_argument("--busy", action="store_true", help="measure processor time, not wall time: for a machine that others use too")
    parser.add_argument("--no-ranks", action="store_true", help="leave out the table of two processes")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--markdown", type=Path, help="also write the tables here, as docs/results/losses.md shows them")
    options = parser.parse_args()
    if options.busy and options.threads != 1:
        parser.error("processor time adds up over threads; --busy goes with --threads 1")
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", module=r"lightly|stable_pretraining")
    console = make_console(pipe_width=150)
    lines = results(options, console.print)
    ranks = [] if options.no_ranks else rank_exactness()
    console.print(f"\n{facts(options)}")
    tables = [times(lines), differences(lines), *([on_ranks(ranks)] if ranks else [])]
    for table in (values(lines), *tables):
        console.print(table.rich())
    console.print(f"\n{equal_ones(lines)}")
    if options.json:
        options.json.write_text(json.dumps({**facts(options), "losses": lines, "ranks": ranks}, indent=2))
    if options.markdown:
        options.markdown.write_text("\n".join([*(table.markdown() for table in tables), equal_ones(lines), ""]))
    if wrong := unexplained(lines):
        raise SystemExit(f"these differ and nothing says why: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
