"""What a test set can show: the smallest difference that it would find, and how many dialogues a margin needs.

By the normal approximation to a paired mean, at 80 % power and α = 0.05.
"""

from __future__ import annotations

import math
from statistics import NormalDist

POWER, ALPHA = 0.8, 0.05
_Z = NormalDist().inv_cdf


def detectable_difference(deviation: float, dialogues: int) -> float:
    """The true difference that a two-sided test on so many dialogues finds in 80 % of cases.

    `deviation` is the standard deviation of the paired differences over dialogues.
    """
    return (_Z(1 - ALPHA / 2) + _Z(POWER)) * deviation / math.sqrt(dialogues)


def provable_margin(deviation: float, dialogues: int) -> float:
    """The margin within which a one-sided test on so many dialogues shows two equal arms to lie in 80 % of cases."""
    return (_Z(1 - ALPHA) + _Z(POWER)) * deviation / math.sqrt(dialogues)


def dialogues_needed(deviation: float, margin: float) -> int:
    """Dialogues for `provable_margin` to be `margin`."""
    return math.ceil(((_Z(1 - ALPHA) + _Z(POWER)) * deviation / margin) ** 2)
