"""What a recipe names is checked here before anything is trained. Every function returns all of its problems.

`data.inputs.read_inputs` calls them in this order, and raises RecipeError with all problems of a stage at once:

1. `check_training` and `model_folder.check_model_folder`, before anything is loaded;
2. `check_architecture` where an arm trains, when the model's config is there, and `check_start_token`, when the
   config also fits the tokenizer (`model.base.fit_config`);
3. `check_vocabulary` and `check_lengths`, when the data are tokenised (`measure_tokens` gives what they compare
   with); `length_warnings` goes to the run's warnings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.data.positions import NO_VIRTUAL, ModelKind, Positions, VirtualTokens, positions
from tuneoff.data.rendering import TemplateRendering
from tuneoff.data.tokens import Tokenization, load_tokens
from tuneoff.errors import Problem, nearest

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from tuneoff.recipe.training import TrainingSpec

NO_TRACKER = "none"
ALL_TRACKERS = "all"

# Architectures whose training loss depends, in transformers 5.23, on which rows share a batch, and why.
DEPENDS_ON_BATCH = {
    "prophetnet": "its decoder's relative positions depend on the padded length of the batch",
    "nllb-moe": "its experts take a limited number of tokens of a whole batch, and leave out the others",
}


@dataclass(frozen=True)
class Extent:
    """The longest token sequences of a run's data, and the highest token id in them. 0 where there is none.

    Attributes:
        training: The longest row that is trained on: an encoder's input, or prompt and target of a causal model.
        target: The longest target of a training row.
        prompt: The longest prompt that a text is generated for.
        highest_id: The highest token id of all rows.
    """

    training: int = 0
    target: int = 0
    prompt: int = 0
    highest_id: int = 0

    def with_references(self, longest: int, kind: ModelKind) -> Extent:
        """The same where losses on the references of generated rows are computed, the longest of `longest` tokens."""
        whole = self.prompt + longest if kind == "causal" else self.prompt
        return replace(self, training=max(self.training, whole), target=max(self.target, longest))


def measure_tokens(training: Iterable[str | Path], generation: Iterable[str | Path]) -> Extent:
    """The extent of the tokenised splits in the folders `training` (with labels) and `generation` (prompts alone)."""
    measured = [_columns(folder) for folder in training]
    prompts = [_columns(folder) for folder in generation]
    return Extent(
        training=max((rows["input_ids"][0] for rows in measured), default=0),
        target=max((rows["labels"][0] for rows in measured), default=0),
        prompt=max((rows["input_ids"][0] for rows in prompts), default=0),
        highest_id=max((highest for rows in (*measured, *prompts) for _, highest in rows.values()), default=0),
    )


def _columns(folder: str | Path) -> dict[str, tuple[int, int]]:
    """For each column of token ids: the most ids in one row, without ignored labels, and the highest id."""
    import pyarrow.compute

    table = load_tokens(folder).data
    found = {}
    for name in {"input_ids", "labels"} & set(table.column_names):
        longest = highest = 0
        for chunk in table.column(name).chunks:
            kept = pyarrow.compute.greater_equal(chunk.flatten(), 0)
            parents = pyarrow.compute.list_parent_indices(chunk).filter(kept)
            counts = pyarrow.compute.value_counts(parents).field("counts")
            longest = max(longest, pyarrow.compute.max(counts).as_py() or 0)
            highest = max(highest, pyarrow.compute.max(chunk.flatten()).as_py() or 0)
        found[name] = longest, highest
    return found


def check_training(training: TrainingSpec) -> list[Problem]:
    """The names of the learning-rate scheduler and of the trackers."""
    return [*_check_scheduler(training.lr_scheduler_type), *_check_trackers(training.report_to)]


def _check_scheduler(name: str) -> list[Problem]:
    from transformers.trainer_utils import SchedulerType

    known = [kind.value for kind in SchedulerType]
    if name in known and _builds(name):
        return []
    usable = [kind for kind in known if _builds(kind)]
    if name in known:
        message = f"{name!r} needs arguments or a metric that a recipe does not give; these work: {', '.join(usable)}"
    else:
        message = f"no scheduler {name!r}; {nearest(name, usable)}"
    return [Problem(("training", "lr_scheduler_type"), message)]


def _builds(name: str) -> bool:
    """Whether a scheduler can be built, and can make a step, from the number of steps alone."""
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    try:
        scheduler = get_scheduler(name, optimizer, num_warmup_steps=1, num_training_steps=4)
        optimizer.step()
        scheduler.step()
    except (TypeError, ValueError):  # what a missing argument or metric raises
        return False
    return True


def _check_trackers(names: list[str]) -> list[Problem]:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = {str(name) for name in LOGGER_TYPE_TO_CLASS}
    installed = {str(name) for name in get_available_trackers()}
    messages = []
    for name in names:
        if name == NO_TRACKER:
            messages.append("'none' is no tracker; write `report_to: []` for none")
        elif name == ALL_TRACKERS:
            here = f"installed here: {', '.join(sorted(installed))}" if installed else "none is installed here"
            messages.append(f"name each tracker; {here}")
        elif name not in known:
            messages.append(f"no tracker {name!r}; {nearest(name, known)}")
        elif name not in installed:
            messages.append(f"the tracker {name!r} is not installed: pip install {name}")
    return [Problem(("training", "report_to"), message) for message in messages]


def check_room(tokenization: Tokenization) -> list[Problem]:
    """What is wrong where the words of the prompt and of a chat template leave no room for the data's texts."""
    if not isinstance(tokenization.rendering, TemplateRendering):
        return []  # what a conversation takes is told with its place
    empty = tokenization.rendering.text(dict.fromkeys(tokenization.rendering.columns, ""))
    taken, most = tokenization.length(empty), tokenization.max_source_length
    if taken < most:
        return []
    what = "the prompt" if tokenization.chat is None else "the prompt and the chat template"
    told = f"{most} tokens leave no room for the texts: {what} take {taken} without them"
    return [Problem(("data", "max_source_length"), told)]


def check_architecture(config: PretrainedConfig) -> list[Problem]:
    """Refuses to train architectures for which the split of a step into micro-batches changes what is learned."""
    name = config.model_type
    reason, remedy = DEPENDS_ON_BATCH.get(name), "; another model is needed"
    if getattr(config, "attention_type", None) == "block_sparse":
        reason = "its sparse attention picks blocks by the padded length of the batch"
        remedy = ". Set attention_type: original_full in the model's config.json"
    if reason is None:
        return []
    message = f"{name} cannot be trained so that arms compare: in transformers {reason}{remedy}"
    return [Problem(("model",), message)]


def check_start_token(config: PretrainedConfig) -> list[Problem]:
    """Refuses an encoder-decoder model that does not say which token its texts begin with."""
    starts = (getattr(config, "decoder_start_token_id", None), getattr(config, "bos_token_id", None))
    if not config.is_encoder_decoder or any(token is not None for token in starts):
        return []
    message = (
        f"{config.model_type}: neither decoder_start_token_id nor bos_token_id is set, so that no text can begin. "
        "Set decoder_start_token_id in the model's config.json or generation_config.json"
    )
    return [Problem(("model",), message)]


def check_vocabulary(
    config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, highest_id: int | None = None
) -> list[Problem]:
    """Refuses a tokenizer that gives tokens for which the model's embeddings have no row.

    A tokenizer may know more tokens than there are rows as long as none of them is used (Gemma 3's image token):
    `highest_id` is the highest id in the data's tokens. Without it, all of the tokenizer's tokens count.
    """
    rows = _embedding_rows(config, tokenizer)
    specials = [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id]
    used = len(tokenizer) - 1 if highest_id is None else max(highest_id, *(i for i in specials if i is not None))
    if rows is None or len(tokenizer) <= rows or used < rows:
        return []
    token = tokenizer.convert_ids_to_tokens(used)
    message = (
        f"the tokenizer has {len(tokenizer)} tokens, and the model's embeddings have {rows} rows: there is none for "
        f"{token!r} ({used}). Use the tokenizer that belongs to the model, or give the model rows "
        f"(model.resize_token_embeddings({len(tokenizer)})) and save it to a folder"
    )
    return [Problem(("model", "tokenizer"), message)]


def _embedding_rows(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The rows of the smallest embedding that the tokenizer's ids go to.

    Marian and FSMT may have a vocabulary for each language; `len(tokenizer)` is then the source's.
    """
    text: Any = config.get_text_config()
    source = [getattr(text, name, None) for name in ("src_vocab_size", "vocab_size")]
    target = [getattr(text, name, None) for name in ("tgt_vocab_size", "decoder_vocab_size")]
    if getattr(tokenizer, "separate_vocabs", False) or getattr(tokenizer, "tgt_vocab_size", None) is not None:
        return next((rows for rows in source if rows is not None), None)
    return min((rows for rows in (*source, *target) if rows is not None), default=None)


def check_lengths(
    config: PretrainedConfig, kind: ModelKind, extent: Extent, max_new_tokens: int, virtual: VirtualTokens = NO_VIRTUAL
) -> list[Problem]:
    """Refuses lengths beyond the model's table of positions, each with both numbers and what to set.

    `virtual` are the tokens that an arm's method adds to every sequence (prompt tuning and its kin).
    """
    table = positions(config)
    if table is None:
        return []
    if kind == "seq2seq":
        return _check_two_tables(config.model_type, table, extent, max_new_tokens, virtual)
    problems = []
    left, more = table.beside(virtual), _and_virtual(virtual.input)
    lengths = "data.max_source_length and data.max_target_length so that together they are at most"
    if extent.training > left.usable:
        message = (
            f"the longest training row has {extent.training} tokens of prompt and target{more}, and "
            f"{config.model_type} has {table.told}. {_remedy(lengths, left.usable)}"
        )
        problems.append(Problem(("data", "max_source_length"), message))
    fed = extent.prompt + max_new_tokens - 1  # the last token that is written is not read again
    lengths = "evaluation.max_new_tokens and data.max_source_length so that together they are at most"
    if extent.prompt and fed > left.input:
        message = (
            f"the longest prompt has {extent.prompt} tokens{more}, and with {max_new_tokens} new ones they do not fit "
            f"in the {table.input} positions of {config.model_type}. {_remedy(lengths, left.input)}"
        )
        problems.append(Problem(("evaluation", "max_new_tokens"), message))
    return problems


def _check_two_tables(
    name: str, table: Positions, extent: Extent, max_new_tokens: int, virtual: VirtualTokens
) -> list[Problem]:
    """The problems of an encoder-decoder, whose encoder and decoder count positions by themselves."""
    left = table.beside(virtual)
    source, target = _and_virtual(virtual.input), _and_virtual(virtual.target)
    longest = max(extent.training, extent.prompt)
    asked = (
        (("data", "max_source_length"), f"input has {longest} tokens{source}", longest, left.usable, table.told),
        (
            ("data", "max_target_length"),
            f"target has {extent.target} tokens{target}",
            extent.target,
            left.usable_target,
            table.told_target,
        ),
        (
            ("evaluation", "max_new_tokens"),
            f"text to be written has {max_new_tokens} tokens{target}",
            max_new_tokens,
            left.target,
            table.told_target,
        ),
    )
    return [
        Problem(path, f"the longest {what}, and {name} has {told}. {_remedy('.'.join(path) + ':', room)}")
        for path, what, length, room, told in asked
        if length > room
    ]


def _and_virtual(count: int) -> str:
    return f" and {count} virtual ones" if count else ""


def _remedy(setting: str, room: int) -> str:
    if room > 0:
        return f"Set {setting} {room}"
    return "No position is left: the method has too many virtual tokens, or the model too few positions"


def length_warnings(config: PretrainedConfig, kind: ModelKind, extent: Extent, max_new_tokens: int) -> list[str]:
    """A sentence where a model of rotary or relative positions meets longer sequences than it was made for."""
    made_for = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions(config) is not None or not isinstance(made_for, int) or made_for <= 0:
        return []
    written = extent.prompt + max_new_tokens if kind == "causal" else extent.prompt
    longest = max(extent.training, written)
    if longest <= made_for:
        return []
    return [
        f"the longest sequence has {longest} tokens, and {config.model_type} was made for {made_for} "
        "(max_position_embeddings): it can read on, and may write worse"
    ]
