"""Signatures to flags and YAML, and back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import pytest
import yaml

from anyview.combiners.combiner import Combiner
from anyview.combiners.mgda import MGDA
from anyview.combiners.weighted_sum import WeightedSum
from anyview.config import Parser, from_yaml, parse_command, slot_kind, slots_of, to_yaml, written_slot
from anyview.encoders.encoder import Encoder
from anyview.encoders.mlp import MLP
from anyview.errors import UserError
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.objective import ObjectiveSlot
from anyview.objectives.vicreg import VICReg
from anyview.schedules import Constant, Cosine, Linear, Schedule
from anyview.views.maker import ViewMaker

SMALL_BARLOW_TWINS = functools.partial(BarlowTwins, width=16)


def example(
    data: str = "digits",
    *,
    mask_rate: float = 0.5,
    kind: Literal["gat", "gcn"] = "gat",
    clip: float | None = None,
    residual: bool = False,
    hops: tuple[int, ...] = (1, 2),
    scale: tuple[float, float] | None = None,
    objective: ObjectiveSlot = SMALL_BARLOW_TWINS,
) -> None:
    """An example.

    Args:
        mask_rate: share of hidden nodes
    """


def slotted(
    *,
    objective: ObjectiveSlot | None = None,
    combiner: Callable[[], Combiner] = WeightedSum,
    schedule: Callable[[], Schedule] | None = functools.partial(Cosine, warmup=3),  # noqa: B008
    clip: float | None = 1.0,
) -> None:
    """Slots of every make."""


def parse(*words: str) -> dict[str, object]:
    return Parser(example, prog="anyview example").parse(words)


def test_flags_have_dashes_types_and_defaults() -> None:
    values = parse("--mask-rate", "0.6", "--kind=gcn", "--clip", "2")
    assert values["mask_rate"] == 0.6
    assert values["kind"] == "gcn"
    assert values["clip"] == 2.0
    assert values["data"] == "digits"
    assert parse("--clip", "null")["clip"] is None


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], False),
        (["--residual"], True),
        (["--residual", "--data", "x"], True),
        (["--residual", "true"], True),
        (["--residual=false"], False),
        (["--residual", "--no-residual"], False),
    ],
)
def test_switches(words: list[str], value: bool) -> None:
    assert parse(*words)["residual"] is value


@pytest.mark.parametrize("words", [["--hops", "3"], ["--hops=3"], ["--hops", "[3]"]])
def test_a_list_needs_no_brackets(words: list[str]) -> None:
    assert tuple(parse(*words)["hops"]) == (3,)  # type: ignore[call-overload]
    assert tuple(parse("--hops", "3,4,5")["hops"]) == (3, 4, 5)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--hops", "{"], r"--hops takes values with commas between them, and was given '\[\{\]'; see `anyview example --help`"),
        (["--scale", "0.2"], r"--scale takes 2 values with commas between them, and was given \[0.2\]; see `anyview example --help`"),
        (["--scale", "0.2,x"], r"--scale takes float, and was given 'x'"),
    ],
)
def test_mistakes_in_lists(words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse(*words)
    assert parse("--scale", "null")["scale"] is None


def test_a_slot_takes_any_objective_with_its_options() -> None:
    slot = parse("--objective", "core/vicreg", "--objective.covariance", "2.5")["objective"]
    made = slot(8)  # type: ignore[operator]
    assert isinstance(made, VICReg)
    assert slot.keywords["covariance"] == 2.5  # type: ignore[attr-defined]
    assert parse("--objective=vicreg")["objective"].func is VICReg  # type: ignore[attr-defined]


def test_a_slots_default_keeps_its_options_and_takes_more() -> None:
    assert parse()["objective"].keywords["width"] == 16  # type: ignore[attr-defined]
    changed = parse("--objective.redundancy", "0.1")["objective"]
    assert changed.func is BarlowTwins  # type: ignore[attr-defined]
    assert changed.keywords["width"] == 16  # type: ignore[attr-defined]
    assert changed.keywords["redundancy"] == 0.1  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["core/vicreg", "core/barlow_twins"])
def test_a_named_component_takes_none_of_the_defaults_options(name: str) -> None:
    """Neither those that it has too, nor those of its own class: the name stands for the component as it is."""
    own = 8192
    for words in (("--objective", name), (f"--objective={name}",)):
        assert parse(*words)["objective"].keywords["width"] == own  # type: ignore[attr-defined]
    assert from_yaml(example, {"objective": name}, prog="p")["objective"].keywords["width"] == own
    assert from_yaml(example, {"objective": {"name": name, "width": 4}}, prog="p")["objective"].keywords["width"] == 4
    before = Parser(example, prog="p").parse(
        ["--objective", name], defaults={"objective": functools.partial(VICReg, width=4, covariance=3)}
    )
    assert before["objective"].keywords["width"] == own
    with pytest.raises(UserError, match="no option of core/vicreg 'redundancy'"):
        parse("--objective.redundancy", "0.5", "--objective", "core/vicreg")


def test_options_change_the_default_that_is_given() -> None:
    changed = Parser(example, prog="p").parse(["--objective.width", "5"], defaults={"objective": functools.partial(VICReg, covariance=3)})
    assert changed["objective"].func is VICReg
    assert {name: changed["objective"].keywords[name] for name in ("width", "covariance")} == {"width": 5, "covariance": 3}


def test_yaml_goes_both_ways() -> None:
    values = parse("--mask-rate", "0.7", "--objective", "core/vicreg", "--objective.width", "32", "--clip", "1")
    text = yaml.safe_dump(to_yaml(values))
    back = from_yaml(example, yaml.safe_load(text), prog="anyview example")
    assert to_yaml(back) == to_yaml(values)
    assert back["objective"](8).project[0].out_features == 32


def test_a_written_slot() -> None:
    assert written_slot("core/vicreg") == ("core/vicreg", {})
    assert written_slot({"name": "core/vicreg", "width": 3}) == ("core/vicreg", {"width": 3})
    assert written_slot(VICReg) == ("core/vicreg", {})
    assert written_slot(functools.partial(BarlowTwins, width=3)) == ("core/barlow_twins", {"width": 3})
    with pytest.raises(UserError, match="belongs to no plugin"):
        written_slot(lambda dim: BarlowTwins(dim))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mask_rte": 0.5}, r"no key \(in the configuration\) 'mask_rte'; did you mean 'mask_rate'"),
        ({"mask_rate": "much"}, r"--mask-rate takes float, and was given 'much'"),
        ({"kind": "gin"}, r"--kind does not take 'gin'|--kind takes .* and was given 'gin'"),
        ({"objective": "core/vicrag"}, r"'core/vicreg'"),
        ({"objective": {"name": "core/vicreg", "widht": 3}}, r"no option of core/vicreg 'widht'; did you mean 'width'"),
    ],
)
def test_mistakes_in_yaml(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        from_yaml(example, values, prog="anyview example")


def test_which_parameters_a_command_line_names() -> None:
    parser = Parser(example, prog="p")
    given = parser.given(["--mask-rate", "1", "--objective.width=3", "--no-residual"])
    assert {"mask_rate", "residual"} <= given
    assert "objective" not in given
    assert "objective" in parser.given(["--objective", "core/vicreg"])
    words = ["--objective.width", "3", "--mask-rate", "1", "--objective.redundancy=2", "--objective", "core/vicreg"]
    assert parser.without_slot_options(words) == ["--mask-rate", "1", "--objective", "core/vicreg"]


def test_help_shows_flags_as_they_are_typed() -> None:
    text = Parser(example, prog="anyview example").help()
    assert "--mask-rate" in text
    assert "share of hidden nodes" in text
    assert "mask_rate" not in text.lower()
    with pytest.raises(SystemExit):
        parse("--help")


def test_slots_are_callables_that_return_components() -> None:
    kinds = {Encoder: "encoders", ViewMaker: "views", Combiner: "combiners", Schedule: "schedules", MGDA: "combiners", float: None}
    assert slot_kind(ObjectiveSlot) == slot_kind(ObjectiveSlot | None) == "objectives"
    assert {made: slot_kind(Callable[[], made]) for made in kinds} == kinds
    assert slot_kind(float) is None
    assert slot_kind(float | None) is None
    assert slots_of(slotted) == {"objective": "objectives", "combiner": "combiners", "schedule": "schedules"}


def parse_slots(*words: str) -> dict[str, object]:
    return Parser(slotted, prog="anyview slotted").parse(words)


def test_slots_take_combiners_and_schedules() -> None:
    values = parse_slots("--combiner", "core/mgda", "--combiner.normalise", "l2", "--schedule.final", "0.5")
    assert values["combiner"]().normalise == "l2"  # type: ignore[operator]
    assert values["schedule"]() == Cosine(1.0, 0.5, warmup=3)  # type: ignore[operator]
    saved = yaml.safe_load(yaml.safe_dump(to_yaml(values)))
    assert saved["combiner"] == {"name": "core/mgda", "normalise": "l2"}
    assert to_yaml(from_yaml(slotted, saved, prog="p")) == to_yaml(values)
    with pytest.raises(UserError, match=r"--combiner takes one of 'none', .* and was given 'l3'"):
        parse_slots("--combiner", "mgda", "--combiner.normalise", "l3")


def test_an_option_without_a_default_is_asked_for() -> None:
    def constant(*, schedule: Callable[[], Schedule] = Constant) -> None:
        """A slot whose default has other options."""

    parser = Parser(constant, prog="p")
    with pytest.raises(UserError, match="what was put into --schedule also needs final"):
        parser.parse(["--schedule", "core/linear", "--schedule.start", "1"])
    made = parser.parse(["--schedule", "core/linear", "--schedule.start", "1", "--schedule.final", "0"])["schedule"]
    assert made() == Linear(1.0, 0.0)


def test_a_slot_that_may_be_empty_is_emptied_and_filled_on_the_command_line_and_in_yaml() -> None:
    assert parse_slots()["objective"] is None
    assert parse_slots("--objective", "vicreg", "--objective.width=5")["objective"](8).project[0].out_features == 5  # type: ignore[operator]
    emptied = parse_slots("--schedule", "null", "--clip=null")
    assert (emptied["schedule"], emptied["clip"]) == (None, None)
    assert to_yaml(from_yaml(slotted, to_yaml(emptied), prog="p")) == to_yaml(emptied)
    for word in ("null", "None"):
        with pytest.raises(UserError, match=f"no combiner {word!r}"):
            parse_slots("--combiner", word)
    with pytest.raises(UserError, match="'combiner' is empty in the configuration"):
        from_yaml(slotted, {"combiner": None}, prog="p")


def test_commands_take_positions_and_flags() -> None:
    def embed(folder: str, *, out: str, overwrite: bool = False) -> None:
        """Rows."""

    assert parse_command(embed, ["runs/a", "--out", "f.npy"], "anyview embed") == {"folder": "runs/a", "out": "f.npy", "overwrite": False}
    with pytest.raises(UserError, match="folder"):
        parse_command(embed, ["--out", "f.npy"], "anyview embed")
    with pytest.raises(UserError, match="out"):
        parse_command(embed, ["runs/a"], "anyview embed")


def test_only_registered_components_fill_slots() -> None:
    assert MLP is not None
    with pytest.raises(UserError, match="no objective 'os:system'"):
        parse("--objective", "os:system")
