"""The Python API: `tuneoff.run`, `tuneoff.plan` and `tuneoff.load`, for notebooks and scripts."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    from tuneoff.recipe.load import LoadedRecipe
    from tuneoff.records import Plan
    from tuneoff.report.arms import Arm
    from tuneoff.report.comparison import Comparison
    from tuneoff.report.figure import Figure
    from tuneoff.use.writer import Writer

RecipeLike = str | Path | Mapping[str, Any]


def run(
    recipe: RecipeLike = "demo",
    *,
    out: str | Path | None = None,
    set: Sequence[str] = (),
    force: bool = False,
) -> Results:
    """Compare the arms of a recipe: a file, the name of one that ships, or a mapping like the YAML's.

    As `tuneoff run`: on the folder of an unfinished run it goes on where that stopped, and trials that have finished
    are not run again. `set` overrides keys ("training.epochs=3"). The folder is `out`, else `runs/` and the recipe's
    name. Raises TuneoffError for what a user can mend; trials that failed are in `Results.comparison`.
    """
    from tuneoff.cli.progress import watch
    from tuneoff.folder import RunFolder
    from tuneoff.report.page import write_report
    from tuneoff.runner.run import Run

    loaded = _loaded(recipe, set)
    folder = RunFolder(Path(out) if out is not None else Path("runs") / loaded.name)
    with watch(folder) as listener:
        Run(loaded.recipe, folder, listener, force).carry_out()
    write_report(folder)
    return Results(folder.path)


def plan(
    recipe: RecipeLike = "demo",
    *,
    set: Sequence[str] = (),
    devices: Sequence[str] = (),
    sweep: str | None = None,
    calibrate: bool = False,
) -> Plan:
    """What a recipe will take, in bytes and seconds, before anything is downloaded or trained: as `tuneoff plan`.

    `devices` are amounts of memory ("16GB"), `sweep` a setting and its values ("r=4,8,16"). Raises TuneoffError.
    """
    from tuneoff.cli.progress import telling
    from tuneoff.planner.plan import plan_recipe

    loaded = _loaded(recipe, set)
    with telling() as tell:
        return plan_recipe(loaded.recipe, tell, devices=devices, sweep=sweep, calibrate=calibrate)


def load(run: str | Path) -> Results:
    """A run's results, finished or not. Raises RunFolderError where the folder is no run."""
    results = Results(Path(run))
    results._folder.require()
    return results


class Results:
    """What a run has shown, as dataframes, figures and models; read anew from the folder at each call."""

    def __init__(self, folder: Path) -> None:
        from tuneoff.folder import RunFolder

        self._folder = RunFolder(folder)

    @property
    def folder(self) -> Path:
        return self._folder.path

    @property
    def comparison(self) -> Comparison:
        """All figures of comparison.json: arms, evidence, samples."""
        return self._compared()[0]

    @property
    def verdict(self) -> list[str]:
        """What the evidence supports, in sentences."""
        from tuneoff.report.verdict import verdict

        return verdict(self.comparison)

    def table(self) -> pandas.DataFrame:
        """A row an arm: parameters, seconds, bytes, ROUGE F × 100."""
        import pandas

        rows = []
        for row in self.comparison.arms:
            parameters, rouge = row.parameters, row.rouge or {}
            rows.append(
                {
                    "arm": row.arm,
                    "trainable": parameters.trainable if parameters else None,
                    "share": parameters.trainable / parameters.total if parameters else None,
                    "train_seconds": row.train_seconds,
                    "train_peak_bytes": row.train_peak_bytes,
                    "predicted_peak_bytes": row.predicted_peak_bytes,
                    "evaluate_peak_bytes": row.evaluate_peak_bytes,
                    **{metric: 100 * value for metric, value in rouge.items()},
                }
            )
        return pandas.DataFrame(rows).set_index("arm")

    def predictions(self) -> pandas.DataFrame:
        """A row for each dialogue and arm (at its first finished seed): texts; ROUGE × 100, mean over references."""
        import pandas

        rows = []
        for arm in self._compared()[1]:
            for p in arm.predictions[arm.first.seed] if arm.first else []:
                scores = {m: 100 * sum(getattr(p, m)) / len(p.references) for m in ("rouge1", "rouge2", "rougeL")}
                rows.append(
                    {"id": p.id, "arm": arm.name, "input": p.input, "references": p.references,
                     "prediction": p.prediction, **scores}
                )  # fmt: skip
        return pandas.DataFrame(rows)

    def history(self) -> pandas.DataFrame:
        """The losses of every arm's training (at its first finished seed), by step and second."""
        import pandas

        from tuneoff.records import read_history

        found = [
            {"arm": arm.name, **line}
            for arm in self._compared()[1]
            if arm.first_folder
            for line in read_history(arm.first_folder.history)
        ]
        return pandas.DataFrame(found)

    def figures(self) -> dict[str, Figure]:
        """The report's charts by the titles of its sections; each shows itself in a notebook."""
        from tuneoff.report.figure import figures

        comparison, arms = self._compared()
        return figures(arms, comparison)

    def model(self, arm: str, *, seed: int | None = None) -> Any:
        """The arm's model as transformers loads it, or peft's around the original: on this machine's device, to use."""
        from tuneoff.use.writer import Finished

        return Finished(self._folder, arm, seed).model()

    def tokenizer(self, arm: str) -> Any:
        """The tokenizer that goes with the arm's model."""
        from tuneoff.use.writer import Finished

        return Finished(self._folder, arm).tokenizer

    def writer(self, arm: str, *, seed: int | None = None) -> Writer:
        """What writes for new inputs, with the prompt and search of the arm's trial: `.write([{"dialogue": …}])`."""
        from tuneoff.use.writer import Finished, Writer

        return Writer(Finished(self._folder, arm, seed))

    def _compared(self) -> tuple[Comparison, list[Arm]]:
        from tuneoff.report.comparison import compare

        return compare(self._folder)

    def _repr_html_(self) -> str:
        html: str = self.table().to_html(float_format=lambda value: f"{value:,.3f}")
        return html


def _loaded(recipe: RecipeLike, set: Sequence[str]) -> LoadedRecipe:
    from tuneoff.recipe import load_recipe
    from tuneoff.recipe.load import make_recipe

    if isinstance(recipe, Mapping):
        return make_recipe(copy.deepcopy(dict(recipe)), set)
    return load_recipe(str(recipe), set)
