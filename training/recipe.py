"""The network that is trained here: what stays frozen, what it is shown, and for how long."""

from dataclasses import dataclass
from typing import Final

from training.backbone import LITE0, Variant

CELL_PIXELS: Final = 16  # stride of the network's places


@dataclass(frozen=True)
class Phase:
    """A part of the training with its own optimizer: what a step shows, and what it changes."""

    name: str
    epochs: int
    steps_per_epoch: int
    learning_rate: float
    trains_backbone: bool
    patches: int  # per step: parts of films, half of them around a radiologist's box
    pairs: int = 0  # per step: a fractured and a normal film of the same source
    typed: int = 0  # per step: films of known type, from every source

    @property
    def shows_films(self) -> bool:
        """Say whether a step shows whole films besides patches."""
        return self.pairs + self.typed > 0


@dataclass(frozen=True)
class Recipe:
    """All that tells one trained network from another. Sizes in pixels of the input, rates per step."""

    name: str
    description: str  # for the model card
    variant: Variant
    side: int  # of the square input
    last_block: int  # the deepest block of the backbone that is kept; its stride is 16
    frozen_block: int  # this block and all before it keep their ImageNet weights
    channels: int  # of the layer that looks at places
    thumbnail_step: int  # so many pixels of the input, each way, are one of the thumbnail
    patch_side: int
    phases: tuple[Phase, ...]
    warmup_share: float  # of a phase's steps
    weight_decay: float
    ema_momentum: float


PLACES: Final = Recipe(
    name="places",
    description=(
        "The first eleven blocks of an EfficientNet-Lite0, the later eight of them trained further, and a layer that "
        "scores places of 16 x 16 pixels. Whether a film shows a fracture is read off the strongest places alone. They "
        "are taught by what lies inside radiologists' boxes against what lies outside them in the same film, and by "
        "pairs of a fractured and a normal film of the same source; no comparison ever runs between sources."
    ),
    variant=LITE0,
    side=448,
    last_block=10,
    frozen_block=2,
    channels=80,
    thumbnail_step=3,
    patch_side=192,
    phases=(
        Phase("head", 2, 50, 1e-3, trains_backbone=False, patches=24),
        Phase("patches", 16, 50, 5e-4, trains_backbone=True, patches=24),
        Phase("films", 5, 50, 2.5e-4, trains_backbone=True, patches=8, pairs=3, typed=2),
    ),
    warmup_share=0.1,
    weight_decay=0.02,
    ema_momentum=0.98,
)
RECIPES: Final = {recipe.name: recipe for recipe in (PLACES,)}
