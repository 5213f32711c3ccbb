"""The network under BentoML with adaptive batching. `bentoml serve benchmarks.peers.bento:Fracture`."""

from typing import Any

import bentoml
import numpy as np
from PIL.Image import Image

from benchmarks.peers.network import BATCH, answer, load, prepare


@bentoml.service(workers=1, traffic={"timeout": 60})
class Fracture:
    """One worker with one network; BentoML decodes the form's image and collects the batch."""

    def __init__(self) -> None:
        self.network, self.size = load()

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=60_000, route="/predict")  # type: ignore[untyped-decorator]
    def predict(self, image: list[Image]) -> list[dict[str, Any]]:
        """Answer for each image."""
        batch = np.stack([prepare(each.convert("RGB"), self.size) for each in image])
        return [answer(row) for row in self.network.predict_on_batch(batch)[0]]
