"""Mean loss on the tokens of the reference: how unlikely the model finds what should be written.

It needs no text and works for any task. Since every token of every reference counts, it shows far smaller differences
than the scores of texts, and says nothing of what the model writes by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.score.metrics.base import Loss, Metric, References, Scorer


def _judge(losses: Sequence[Loss]) -> list[float]:
    return [nats / tokens for nats, tokens in losses]


def _prepare(_: References) -> Scorer:
    return Scorer(judge=_judge, signature={"token_loss": "nats-per-token"})


METRICS = (
    Metric(
        "token_loss", "token loss", "loss", "loss in nats per token of the reference, less is better", "mean", _prepare,
        better="lower", scale=1.0, unit="nats", digits=4, by_text=False,
    ),
)  # fmt: skip
