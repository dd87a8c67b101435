"""Random search over a recipe's ranges, judged on validation data alone: the first trial is the recipe's own, any may be interrupted.

Bergstra, Bengio. Random Search for Hyper-Parameter Optimization. JMLR 13, 2012.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyview.config import to_yaml
from anyview.errors import UserError
from anyview.folder import RunFolder
from anyview.plugins import host
from anyview.progress import TrialsLine
from anyview.ranges import Range
from anyview.recipe import Recipe, RecipeFunction
from anyview.record import recipe_record
from anyview.run import Run, build, load
from anyview.tuning.folder import TuningFolder
from anyview.tuning.judge import Judge, make_judge
from anyview.tuning.retrain import check_retrain, retrained
from anyview.tuning.space import Space, space_of, written
from anyview.tuning.trial import Job, Trial, carried_out


@dataclass(frozen=True)
class How:
    """How a search is carried out; see `tune`."""

    trials: int = 20
    seed: int = 0
    by: str | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    jobs: int = 1
    budget: float | None = None
    repeat: int = 0
    finalists: int = 3
    retrain: bool = False
    keep_all: bool = False
    accelerator: str = "auto"
    precision: str = "32-true"
    quiet: bool = True

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("jobs", 1), ("repeat", 0), ("finalists", 2)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} takes at least {least}, and was given {getattr(self, name)}")
        if self.budget is not None and not self.budget > 0:
            raise UserError(f"--budget takes seconds above 0, and was given {self.budget:g}")


@dataclass(frozen=True)
class Ranked:
    """A trial in the order. score: of the search's seed; fresh: those of further seeds, where it was a finalist."""

    trial: Trial
    fresh: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Mean of the fresh scores; NaN without any."""
        return statistics.fmean(self.fresh) if self.fresh else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation of the fresh scores (of a sample: n - 1); NaN for fewer than two."""
        return statistics.stdev(self.fresh) if len(self.fresh) > 1 else math.nan


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    recipe: its full name. by: what the score is. trials: best first; of finalists the means over fresh seeds decide. failed: those without
    a score. untrained: the score of the same encoder before training. values: all of the recipe's, the best in their places. ranges: as
    typed, by name. folder: with tuning.json, best.yaml and the runs. left: trials that were asked for and not made, because of the budget
    or exhausted choices.
    """

    recipe: str
    by: str
    trials: list[Ranked]
    failed: list[Trial]
    untrained: float
    values: dict[str, Any]
    ranges: dict[str, str]
    folder: Path
    left: int = 0

    @property
    def best(self) -> Trial:
        """The first trial."""
        return self.trials[0].trial

    @property
    def config(self) -> Path:
        """best.yaml."""
        return TuningFolder(self.folder).best_file

    @property
    def run_folder(self) -> Path:
        """Where the best trial's run lies."""
        return TuningFolder(self.folder).run_folder(self.best.number)

    def load(self) -> Run:
        """The best trial's run. Raises UserError where its weights were given up for an earlier best."""
        return load(self.run_folder)


def tune(
    recipe: str,
    out: str | Path,
    *,
    trials: int = 20,
    seed: int = 0,
    by: str | None = None,
    ranges: Mapping[str, Range | str | None] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    jobs: int = 1,
    budget: float | None = None,
    repeat: int = 0,
    finalists: int = 3,
    retrain: bool = False,
    keep_all: bool = False,
    accelerator: str = "auto",
    precision: str = "32-true",
    preset: str | None = None,
    quiet: bool = True,
    **values: Any,
) -> Tuned:
    """Search a recipe's ranges at random, and keep all of it in the folder `out`; called again, it goes on where it stopped.

    recipe: its name; values: parameters that stay fixed. trials: how many, the recipe's own values first; what a trial draws follows from
    `seed` and its number alone. by: "validation", the recipe's own score; a protocol, asked for the validation part; or a label-free
    metric; None takes the first, or else the data's protocol. No test part is ever scored. ranges: added to the recipe's own or in their
    place, a `Range` or as typed ("1e-4..1e-2"); None leaves one out. options: of the protocol, by its name. jobs: trials at a time, each in
    a process of its own. budget: seconds of all trials together after which none begins. repeat: the best `finalists` are trained again
    with so many fresh seeds, whose mean decides. retrain: best.yaml trains on the validation part too, for the passes that it chose.
    keep_all: keep the weights of every trial, not of the best alone.

    A trial that raises UserError or has no finite loss is kept with its sentence. Raises UserError for unknown names, ranges that are
    empty, nothing to search, and a folder that holds another search; KeyboardInterrupt when it was asked to stop, which costs the trials
    in progress.
    """
    component = host().find("recipes", recipe)
    function: RecipeFunction = component.load()
    for name in values:
        function.parameter(name)
    resolved, _ = function.resolve(values, preset)
    space = space_of(function, resolved, set(values), ranges or {}, component.full_name)
    how = How(
        trials=trials,
        seed=seed,
        by=by,
        options=options or {},
        jobs=jobs,
        budget=budget,
        repeat=repeat,
        finalists=finalists,
        retrain=retrain,
        keep_all=keep_all,
        accelerator=accelerator,
        precision=precision,
        quiet=quiet,
    )
    return Search(component.full_name, space, out, how).run()


class Search:
    """One search: what is asked of it, and what its folder holds.

    Raises UserError, before anything is written, for all that can be seen without training.
    """

    def __init__(self, recipe: str, space: Space, out: str | Path, how: How) -> None:
        self.recipe, self.space, self.how, self.folder = recipe, space, how, TuningFolder(out)
        if how.trials > 1 and not space.ranges:
            raise UserError(f"nothing of {recipe} is left to search; name a range, as in --range.lr 1e-4..1e-2, or ask for 1 trial")
        self.settings = space.settings(how.seed, how.trials)
        first = build(recipe, space.values, seed=how.seed)
        self.judge = make_judge(how.by, first, how.options, how.accelerator)
        self._own, self._source = recipe_record(first, how.seed, how.precision), first.source
        if how.retrain:
            check_retrain(space.function, first, self.judge, space.values.get("data"))
        self.untrained = _score_before_training(first, self._own, self.judge)
        self.record = self._record()

    def run(self) -> Tuned:
        """Make the trials that are missing, choose among them, and write best.yaml."""
        self.folder.check(self.record)
        with self.folder.lock():
            self.trials = {(trial.number, trial.seed): trial for trial in self.folder.trials()}
            self.folder.write(self.record, self.trials.values())
            jobs = [self._job(number, self.how.seed) for number in range(len(self.settings))]
            self._make(jobs, "tune")
            if self.how.repeat:
                self._make([self._job(one.number, seed) for one in self._finalists() for seed in self._fresh_seeds], "finalists")
            found = self._found()
            self._thin_out([found.best])
            self.folder.write_best(self._configuration(found))
        return found

    @property
    def _fresh_seeds(self) -> range:
        return range(self.how.seed + 1, self.how.seed + 1 + self.how.repeat)

    def _make(self, jobs: list[Job], name: str) -> None:
        """Make the trials of these jobs that are missing, and save each as it ends."""
        missing = [job for job in jobs if (job.number, job.seed) not in self.trials]
        shown = TrialsLine(name, len(jobs), done=len(jobs) - len(missing), shown=not self.how.quiet)
        with shown as line, contextlib.closing(_closable(carried_out(self._affordable(missing), self.how.jobs))) as made:
            for trial in made:
                self.trials[trial.number, trial.seed] = trial
                self.folder.write(self.record, self.trials.values())
                self._thin_out(self._finalists() if self.how.repeat else self._ranked[:1])
                line.advance(f"best {self._ranked[0].score:.4f}" if self._ranked else "")

    def _affordable(self, jobs: list[Job]) -> Iterator[Job]:
        """The jobs, one by one, for as long as the budget lasts."""
        for job in jobs:
            if self.how.budget is not None and sum(trial.seconds for trial in self.trials.values()) >= self.how.budget:
                return
            yield job

    def _job(self, number: int, seed: int) -> Job:
        setting = self.settings[number]
        folder = self.folder.run_folder(number, None if seed == self.how.seed else seed)
        values = self.space.applied(setting)
        return Job(number, seed, setting, self.recipe, values, folder, self.judge, self.how.accelerator, self.how.precision)

    @property
    def _asked(self) -> list[Trial]:
        """The trials of the search's seed that are asked for and made."""
        return [trial for (number, seed), trial in sorted(self.trials.items()) if seed == self.how.seed and number < len(self.settings)]

    @property
    def _ranked(self) -> list[Trial]:
        """Those with a score, best first; of equal ones the first."""
        return sorted((trial for trial in self._asked if trial.score is not None), key=self._badness)

    def _badness(self, trial: Trial) -> float:
        assert trial.score is not None
        return -self.judge.goodness(trial.score)

    def _finalists(self) -> list[Trial]:
        return self._ranked[: self.how.finalists]

    def _found(self) -> Tuned:
        """What the search found; raises UserError where every trial failed."""
        failed = [trial for trial in self._asked if trial.score is None]
        if not self._ranked:
            raise UserError(f"all {len(failed)} trials failed, the first because {failed[0].error}; see {str(self.folder.tuning_file)!r}")
        ranked = self._in_order()
        return Tuned(
            recipe=self.recipe,
            by=self.judge.name,
            trials=ranked,
            failed=failed,
            untrained=self.untrained,
            values=self.space.applied(ranked[0].trial.setting),
            ranges=written(self.space.ranges),
            folder=self.folder.path,
            left=self.how.trials - len(self._asked),
        )

    def _in_order(self) -> list[Ranked]:
        """Finalists by the mean of their fresh scores, those that lack some behind them, then the others."""
        rated = {trial.number: Ranked(trial, self._fresh_scores(trial)) for trial in self._ranked}
        finalists = [rated[trial.number] for trial in self._finalists()] if self.how.repeat else []
        whole = [one for one in finalists if len(one.fresh) == self.how.repeat]
        whole.sort(key=lambda one: -self.judge.goodness(one.mean))
        first = {one.trial.number for one in whole}
        return [*whole, *(one for number, one in rated.items() if number not in first)]

    def _fresh_scores(self, trial: Trial) -> tuple[float, ...]:
        fresh = [self.trials.get((trial.number, seed)) for seed in self._fresh_seeds]
        return tuple(one.score for one in fresh if one is not None and one.score is not None)

    def _thin_out(self, kept: list[Trial]) -> None:
        """Give up the weights of all runs but those kept, unless all are to be."""
        if self.how.keep_all:
            return
        places = {key: self.folder.run_folder(key[0], None if key[1] == self.how.seed else key[1]) for key in self.trials}
        self.folder.thin_out([places[one.number, one.seed] for one in kept], list(places.values()))

    def _configuration(self, found: Tuned) -> dict[str, Any]:
        """best.yaml."""
        values = found.values
        if self.how.retrain:
            seeds = self._fresh_seeds if found.trials[0].fresh else [self.how.seed]
            passes = [self.trials[found.best.number, seed].passes for seed in seeds]
            values = retrained(values, self._source, [one for one in passes if one is not None])
        parameters = {**to_yaml(values), "data": self._own["parameters"]["data"]}
        return {"recipe": self.recipe, "seed": self.how.seed, "precision": self.how.precision, "parameters": parameters}

    def _record(self) -> dict[str, Any]:
        """What tuning.json says beside the trials."""
        own = self._own
        record = {
            **{name: own[name] for name in ("recipe", "seed", "precision", "parameters")},
            "by": self.judge.name,
            "options": {name: to_yaml(chosen) for name, chosen in self.how.options.items()},
            "ranges": written(self.space.ranges),
            "untrained": self.untrained,
            "data": own["data"],
            "versions": own["versions"],
            "created": own["created"],
        }
        whole: dict[str, Any] = json.loads(json.dumps(record))
        return whole


class _Untrained(Run):
    """A recipe before training, in the place of a run; it has no folder."""

    def __init__(self, recipe: Recipe, record: Mapping[str, Any]) -> None:
        super().__init__(RunFolder(recipe.name), recipe)
        self.record = dict(record)


def _score_before_training(recipe: Recipe, record: Mapping[str, Any], judge: Judge) -> float:
    return judge.score(_Untrained(recipe, record))


def _closable(made: Iterator[Trial]) -> Generator[Trial]:
    """An iterator that can be closed, whatever it goes over."""
    yield from made
