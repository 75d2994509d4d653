"""How many positions a model's tables have: sequences beyond them are an index error in the model's forward pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tuneoff.data.order import PADDING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ModelKind = Literal["seq2seq", "causal"]

# Architectures whose positions are rows of a table of fixed size, with the names of their settings for it. All others
# compute them (rotary, relative, ALiBi, sinusoids made as needed), and take any length.
ONE_TABLE = ("max_position_embeddings", "max_position_embeddings")
TABLES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        (
            "bart", "mbart", "plbart", "mvp", "pegasus", "bigbird_pegasus", "blenderbot", "blenderbot-small",
            "marian", "prophetnet",
            "gpt2", "gpt-sw3", "gpt_bigcode", "gpt_neo", "gptj", "codegen", "ctrl", "openai-gpt", "opt", "biogpt",
            "trocr",
            "bert", "bert-generation", "big_bird", "electra", "ernie", "megatron-bert", "rembert", "roc_bert",
            "roformer",
            "camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
        ),
        ONE_TABLE,
    ),
    "led": ("max_encoder_position_embeddings", "max_decoder_position_embeddings"),
    "mpt": ("max_seq_len", "max_seq_len"),
}  # fmt: skip

# Rows that are lost before the first token: these count positions from the padding token's id on.
FROM_PADDING = {
    "camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    "prophetnet",
}  # fmt: skip


# Methods of peft that hand their virtual tokens to the attention as keys and values: an encoder-decoder's decoder
# counts them. All others put them before the input.
AS_KEYS = {"prefix_tuning", "cartridge"}


@dataclass(frozen=True)
class VirtualTokens:
    """How many positions a method's virtual tokens take of the input's table and of the target's."""

    input: int = 0
    target: int = 0


NO_VIRTUAL = VirtualTokens()


@dataclass(frozen=True)
class Positions:
    """The positions of a model's input (an encoder's, or the whole sequence) and of its target.

    Rows of a training batch are padded to multiples of `step` tokens, and of `target_step` in a decoder; padding
    takes positions, too.
    """

    input: int
    target: int
    step: int = PADDING
    target_step: int = PADDING

    def beside(self, virtual: VirtualTokens) -> Positions:
        """What virtual tokens leave of the tables. They are added to rows that are padded already."""
        return replace(self, input=self.input - virtual.input, target=self.target - virtual.target)

    @property
    def usable(self) -> int:
        """The longest input that fits when it is padded."""
        return self.input - self.input % self.step

    @property
    def usable_target(self) -> int:
        """The longest target that fits when it is padded."""
        return self.target - self.target % self.target_step

    @property
    def told(self) -> str:
        return _told(self.input, self.step)

    @property
    def told_target(self) -> str:
        return _told(self.target, self.target_step)


def positions(config: PretrainedConfig) -> Positions | None:
    """The tables of a model of `config`; None where its positions have no end, or are not known here."""
    names = TABLES.get(config.model_type)
    if names is None:
        return None
    given, target = (int(getattr(config, name)) for name in names)
    step = PADDING
    if config.model_type in FROM_PADDING:
        lost = int(config.pad_token_id or 0) + 1
        given, target = given - lost, target - lost
    if config.model_type == "prophetnet":
        target -= 1  # its predicting stream looks one position further
    if config.model_type == "led":  # pads by itself to the widest window of its layers' attention
        window: Any = config.attention_window
        step = math.lcm(PADDING, max(window) if isinstance(window, list) else window)
    return Positions(given, target, step)


def virtual_tokens(method: str, settings: Mapping[str, Any], kind: ModelKind) -> VirtualTokens:
    """The virtual tokens of a method with `settings` as peft takes them; none for a method that has none."""
    given = settings.get("num_virtual_tokens")
    if method == "cpt":
        given = len(settings.get("cpt_token_ids") or [0])  # peft's own default is one token
    count = given if isinstance(given, int) else 0
    return VirtualTokens(target=count) if kind == "seq2seq" and method in AS_KEYS else VirtualTokens(input=count)


def _told(count: int, step: int) -> str:
    return f"{count} positions" + (f" (inputs are padded to multiples of {step})" if count % step else "")
