"""The networks that can be trained here: what stays frozen, what is trained, and how long."""

from dataclasses import dataclass
from typing import Final, Literal

from training.backbone import LITE0, Variant


@dataclass(frozen=True)
class Recipe:
    """All that tells one trained network from another. Sizes in pixels, rates per step."""

    name: str
    description: str  # one sentence or two for the model card
    variant: Variant
    size: tuple[int, int]
    trunk_end: str  # the last frozen layer; its output is computed once per view and cached
    pooled: bool  # cache the trunk's mean over all places instead of its map
    head: Literal["linear", "grid"]
    random_views: int
    trains_depthwise: bool  # train the per-channel filters too, a fifth of the time on a CPU
    epochs: int
    warmup_epochs: float
    images_per_epoch: int | None  # drawn so that rare kinds come up more often; None: every image once
    batch: int
    learning_rate: float
    weight_decay: float
    place_weight: float  # of the loss that compares the evidence with the radiologists' boxes; 0: no such loss
    shows_evidence: bool  # ship the evidence as a second output


BASELINE: Final = Recipe(
    name="baseline",
    description="An EfficientNet-Lite0 with its ImageNet weights, and a linear layer on the mean of its features.",
    variant=LITE0,
    size=(320, 320),
    trunk_end="head_relu6",
    pooled=True,
    head="linear",
    random_views=0,
    trains_depthwise=False,
    epochs=40,
    warmup_epochs=0.0,
    images_per_epoch=None,
    batch=64,
    learning_rate=1e-3,
    weight_decay=0.1,
    place_weight=0.0,
    shows_evidence=False,  # its peak is at a box less often than the centre of the image is
)
GRID: Final = Recipe(
    name="grid",
    description="An EfficientNet-Lite0, its later blocks trained further, with evidence per place and a global branch.",
    variant=LITE0,
    size=(384, 384),
    trunk_end="block_4",
    pooled=False,
    head="grid",
    random_views=10,
    trains_depthwise=False,
    epochs=8,
    warmup_epochs=0.5,
    images_per_epoch=1_400,
    batch=16,
    learning_rate=5e-4,
    weight_decay=0.05,
    place_weight=0.5,
    shows_evidence=True,
)
RECIPES: Final = {recipe.name: recipe for recipe in (BASELINE, GRID)}
