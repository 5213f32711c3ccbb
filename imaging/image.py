"""What decoding a file gives: an upright 8-bit image and facts about the file, or an ImageError."""

from dataclasses import dataclass


class ImageError(Exception):
    """A file that is not a usable image: a stable code of the API's error table and the facts its sentence states."""

    def __init__(self, code: str, **facts: object) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts


@dataclass(frozen=True)
class DecoderFacts:
    """What the decoder found in a file and did about it.

    `bits` is the number whose 2^bits - 1 counted as white, None for samples without one; `inverted` says that the file
    counts from white to black; `rotated` is in degrees clockwise, after mirroring; `original_size` is (height, width)
    in pixels, as stored; of several `frames` the first counts.
    """

    format: str
    bits: int | None
    inverted: bool
    rotated: int
    mirrored: bool
    frames: int
    original_size: tuple[int, int]
