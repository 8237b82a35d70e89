"""The kinds of interaction by their names in a config: Harmony's, Ovi's and UniAVGen's."""

from __future__ import annotations

from .interaction import FramewiseInteraction, GlobalInteraction
from .masked import MaskedInteraction

Interaction = FramewiseInteraction | GlobalInteraction | MaskedInteraction
KINDS: dict[str, type[Interaction]] = {
    "framewise": FramewiseInteraction,
    "global": GlobalInteraction,
    "masked": MaskedInteraction,
}
