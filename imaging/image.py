"""The result of decoding a file: an upright 8-bit image and facts about the file, or an ImageError."""

from dataclasses import dataclass


class ImageError(Exception):
    """A file that is not a usable image: an error code of the API and the facts for its message."""

    def __init__(self, code: str, **facts: object) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts


@dataclass(frozen=True)
class DecoderFacts:
    """What the decoder found in a file and did about it.

    `bits` is the depth at which 2^bits - 1 is white, None for samples without one; `inverted` means that 0 is white;
    `rotated` is in degrees clockwise, after mirroring; `original_size` is (height, width) in pixels, as stored; of
    several `frames` the first counts.
    """

    format: str
    bits: int | None
    inverted: bool
    rotated: int
    mirrored: bool
    frames: int
    original_size: tuple[int, int]
