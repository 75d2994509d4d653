"""The Python API, for notebooks and scripts: `tuneoff.run`, `plan`, `examples` and `load`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
    arms: Sequence[str] = (),
    force: bool = False,
) -> Results:
    """Carry out a recipe: train and evaluate its arms, each in a process of its own, and write the report.

    Arms that have finished in that folder are not run again, and one that was interrupted goes on where it stopped.
    With `arms` a run can be made in parts: the same recipe, one arm at a time.

    ```python
    results = tuneoff.run("demo", set=["training.epochs=1"])
    results.table()
    ```

    Args:
        recipe: A recipe's file, the name of one that ships, or a mapping like the YAML's.
        out: The folder of the run; by default `runs/` and the recipe's name.
        set: Keys to override, as `"training.epochs=3"`.
        arms: The arms to run now; all where none is named.
        force: Run even what is predicted not to fit this machine.

    Raises:
        TuneoffError: What a user can mend: a mistake in the recipe or the data, an arm that does not fit, a folder
            that holds a run of another recipe, model or data. Each has its own class in `tuneoff.errors`. A trial that
            fails is no error: it is told in `Results.comparison`. A mistake that only a trial meets, such as weights
            that cannot be loaded, is raised when the other trials have had their turn.
        InterruptedRunError: The run was asked to stop (Ctrl-C or SIGTERM, which are heard in the main thread alone).
        PrepareFailedError: Preparing died of what is no mistake: a bug, or the machine.
    """
    from tuneoff.cli.progress import watch
    from tuneoff.folder import RunFolder
    from tuneoff.report.page import write_report
    from tuneoff.runner.run import Run

    loaded = _loaded(recipe, set)
    folder = RunFolder(Path(out) if out is not None else Path("runs") / loaded.name)
    with watch(folder) as listener:
        Run(loaded.recipe, folder, listener, force, arms).carry_out()
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
    """What a recipe will take, in bytes and seconds, before anything is trained. No weights are needed.

    ```python
    plan = tuneoff.plan("dialogsum-flan-t5-base", devices=["16GB"], sweep="r=8,32")
    {arm.arm: (arm.parameters.trainable, arm.longest.peak) for arm in plan.arms if arm.longest}
    ```

    Args:
        recipe: As for `run`.
        set: Keys to override, as `"training.epochs=3"`.
        devices: Amounts of memory to try besides this machine's, as `"16GB"`.
        sweep: A setting of a method and its values, as `"r=4,8,16"`: each arm that has it is planned at each value.
        calibrate: Time a few real steps first, for narrower times.

    Raises:
        TuneoffError: A mistake in the recipe, the data or these arguments.
    """
    from tuneoff.cli.progress import telling
    from tuneoff.data.early import require_early

    loaded = _loaded(recipe, set)
    require_early(loaded.recipe)
    from tuneoff.planner.plan import plan_recipe  # loads torch, which takes seconds

    with telling() as tell:
        return plan_recipe(loaded.recipe, tell, devices=devices, sweep=sweep, calibrate=calibrate)


def examples(
    recipe: RecipeLike = "demo",
    split: Literal["train", "validation", "test"] = "test",
    *,
    set: Sequence[str] = (),
) -> pandas.DataFrame:
    """The examples of one split as a run of the recipe reads them: checked, limited, and put into its prompt.

    Args:
        recipe: As for `run`.
        split: Which split, by the name that it has in the recipe.
        set: Keys to override, as `"data.limit.train=100"`.

    Returns:
        A row an example: `id`, `input`, `prompt` (the text that a model is given) and `references` (a list: one
            in training, in the split that is scored all that the data have).

    Raises:
        TuneoffError: A mistake in the recipe, or data that cannot be read.
    """
    import pandas

    from tuneoff.data.splits import open_splits, read_split
    from tuneoff.errors import DataError, nearest

    loaded = _loaded(recipe, set).recipe
    names = {key: name for key, name in loaded.data.splits.model_dump().items() if name is not None}
    if split not in names:
        raise DataError(f"the recipe's data have no split {split!r}; {nearest(split, names)}")
    found = read_split(loaded, open_splits(loaded), split, names[split]).examples
    return pandas.DataFrame(
        [{"id": e.id, "input": e.input, "prompt": e.prompt, "references": list(e.references)} for e in found]
    )


def load(run: str | Path) -> Results:
    """The results of a run, finished or not.

    Args:
        run: The folder of the run.

    Raises:
        RunFolderError: The folder is no run.
    """
    results = Results(Path(run))
    results._folder.require()
    return results


class Results:
    """What a run has shown, finished or not: dataframes, figures and models, read anew from its folder at each call.

    It shows itself as its table, as text or in a notebook.
    """

    def __init__(self, folder: Path) -> None:
        from tuneoff.folder import RunFolder

        self._folder = RunFolder(folder)

    @property
    def folder(self) -> Path:
        """Where the run lies, with its report, models and predictions."""
        return self._folder.path

    @property
    def comparison(self) -> Comparison:
        """Everything that is known: the arms' figures, the evidence with its intervals, samples, what has failed."""
        return self._compared()[0]

    @property
    def verdict(self) -> list[str]:
        """What the evidence supports, in sentences, the most important first; empty before two arms have finished."""
        from tuneoff.report.verdict import verdict

        return verdict(self.comparison)

    def table(self) -> pandas.DataFrame:
        """A row an arm, averaged over its finished seeds; missing where it was not measured, or has not run.

        Columns: `trainable` (parameters) and its `share` of all; `train_seconds` and `generate_seconds`;
        `train_peak_bytes`, its prediction `predicted_peak_bytes`, `generate_peak_bytes` and
        `process_peak_bytes`; each metric of the recipe, by its name, as it is shown (most × 100); of a
        diagnosed run `forgot`, by how many nats per token the loss on other texts has risen.
        """
        import pandas

        from tuneoff.score.metrics import find_metrics

        comparison = self.comparison
        metrics = find_metrics(comparison.metrics)
        found = comparison.forgotten
        forgot = {arm: found.change(arm).difference.value for arm in found.by_kind} if found is not None else {}
        rows = []
        for row in comparison.arms:
            parameters, scores = row.parameters, row.scores or {}
            rows.append(
                {
                    "arm": row.arm,
                    "trainable": parameters.trainable if parameters else None,
                    "share": parameters.trainable / parameters.total if parameters else None,
                    "train_seconds": row.train_seconds,
                    "generate_seconds": row.generate_seconds,
                    "train_peak_bytes": row.train_peak_bytes,
                    "predicted_peak_bytes": row.predicted_peak_bytes,
                    "generate_peak_bytes": row.generate_peak_bytes,
                    "process_peak_bytes": row.process_peak_bytes,
                    **{metric.name: metric.scale * scores[metric.name] for metric in metrics if metric.name in scores},
                    **({"forgot": forgot.get(row.arm)} if forgot else {}),
                }
            )
        return pandas.DataFrame(rows).set_index("arm")

    def memory(self) -> pandas.DataFrame:
        """The bytes alive at the peak of a training step, a row an arm that trains (at its first finished seed).

        Columns: `weights`, `buffers`, `gradients`, `optimizer`, `activations`, `temporary`.
        """
        import pandas

        firsts = {arm.name: arm.first for arm in self._compared()[1] if arm.first}
        found = {
            name: first.memory.train.components
            for name, first in firsts.items()
            if first.memory and first.memory.train and first.memory.train.components
        }
        return pandas.DataFrame.from_dict(found, orient="index").rename_axis("arm")

    def predictions(self) -> pandas.DataFrame:
        """A row for each example and arm (at its first finished seed).

        Columns: `id`, `arm`, `input`, `references` (a list), `prediction`; each metric of the recipe, by name (× 100).
        """
        import pandas

        from tuneoff.score.metrics import find_metrics

        rows = []
        comparison, arms = self._compared()
        metrics = find_metrics(comparison.metrics)
        for arm in arms:
            for p in arm.predictions[arm.first.seed] if arm.first else []:
                scores = {m.name: m.scale * m.of_example(p.scores[m.name]) for m in metrics}
                rows.append(
                    {"id": p.id, "arm": arm.name, "input": p.input, "references": p.references,
                     "prediction": p.prediction, **scores}
                )  # fmt: skip
        return pandas.DataFrame(rows)

    def history(self) -> pandas.DataFrame:
        """How training went: a row for each logged step of each arm (at its first finished seed).

        Columns: `arm`, `step`, `epoch`, `train_seconds` (since it began), `loss` and, after each epoch, `eval_loss` on
        the validation split (both in nats a target token), `learning_rate`, `grad_norm`.
        """
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
        """The report's charts by title, for what the run has to show so far; each shows itself in a notebook.

        Titles: `Quality against cost`, `Learning`, `Memory of a training step`, `Time by phase`, `Scores by example`,
        `Paired differences`, and of a diagnosed run `What was learnt` and `What was forgotten`.
        """
        from tuneoff.report.figure import figures

        comparison, arms = self._compared()
        return figures(arms, comparison)

    def model(self, arm: str, *, seed: int | None = None) -> Any:
        """The model of a finished arm, on this machine's device, ready to generate.

        ```python
        model, tokenizer = results.model("lora"), results.tokenizer("lora")
        inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
        tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True)
        ```

        Args:
            arm: Its name in the recipe.
            seed: One of the recipe's; by default the first that has finished.

        Returns:
            What plain transformers loads (a `PreTrainedModel`), for a method of peft a `PeftModel` around the original.

        Raises:
            RunFolderError: There is no such arm, or it has not finished.
        """
        from tuneoff.runner.finished import Finished

        return Finished(self._folder, arm, seed).model()

    def tokenizer(self, arm: str) -> Any:
        """The tokenizer of a finished arm's model. Raises RunFolderError as `model` does."""
        from tuneoff.runner.finished import Finished

        return Finished(self._folder, arm).tokenizer

    def writer(self, arm: str, *, seed: int | None = None) -> Writer:
        """What writes for new inputs as the arm's trial did: its prompt, precision and search.

        ```python
        results.writer("lora").write([{"dialogue": "#Person1#: Hello! …"}])[0].text
        ```

        Raises RunFolderError as `model` does.
        """
        from tuneoff.runner.finished import Finished
        from tuneoff.use.writer import Writer

        return Writer(Finished(self._folder, arm, seed))

    def _compared(self) -> tuple[Comparison, list[Arm]]:
        from tuneoff.report.comparison import compare

        return compare(self._folder)

    def __repr__(self) -> str:
        return f"{self.folder}\n{self.table().to_string(float_format=_number_text)}"

    def _repr_html_(self) -> str:
        html: str = self.table().to_html(float_format=lambda value: f"{value:,.3f}")
        return html


def _number_text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _loaded(recipe: RecipeLike, set: Sequence[str]) -> LoadedRecipe:
    from tuneoff.recipe import load_recipe
    from tuneoff.recipe.load import make_recipe, placed

    if isinstance(recipe, Mapping):
        return placed(make_recipe(copy.deepcopy(dict(recipe)), set), Path.cwd())
    return load_recipe(str(recipe), set)
