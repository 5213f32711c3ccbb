"""The networks that can be trained here: what stays frozen, what is trained, and how long."""

from dataclasses import dataclass
from typing import Final, Literal

from training.backbone import LITE0, Variant


@dataclass(frozen=True)
class Recipe:
    """All that tells one trained network from another. Sizes in pixels, rates per step."""

    name: str
    description: str  # for the model card
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
    bfloat16_after: str  # the layer behind which bfloat16 is judged, or none; see precision.py


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
    shows_evidence=False,  # its peak is at a radiologist's box less often than the centre of the image is
    bfloat16_after="",
)
GRID: Final = Recipe(
    name="grid",
    description=(
        "An EfficientNet-Lite0 whose later blocks were trained further, with a head that gives evidence for each place "
        "of 16 x 16 pixels, taught by radiologists' boxes where there are some, and a look at the whole."
    ),
    variant=LITE0,
    size=(384, 384),
    trunk_end="block_4",
    pooled=False,
    head="grid",
    random_views=10,
    trains_depthwise=False,
    epochs=10,
    warmup_epochs=0.5,
    images_per_epoch=1_400,
    batch=16,
    learning_rate=5e-4,
    weight_decay=0.05,
    place_weight=0.5,
    shows_evidence=True,
    bfloat16_after="block_7",
)
RECIPES: Final = {recipe.name: recipe for recipe in (BASELINE, GRID)}
