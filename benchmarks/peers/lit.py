"""The network under LitServe with batching. `python -m benchmarks.peers.lit` serves."""

import os
from typing import Any

import litserve
import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from benchmarks.peers.network import BATCH, answer, load, opened, prepare

Array = NDArray[np.float32]


class FractureAPI(litserve.LitAPI):  # type: ignore[misc]  # installed where it runs alone
    """Decode, predict, encode, as LitServe names them."""

    def setup(self, device: str) -> None:  # noqa: ARG002 LitServe passes the device, here always the CPU
        """Load the network, in the worker's process."""
        self.network, self.size = load()

    def decode_request(self, request: Request) -> Array:
        """Turn a form, as LitServe passes the request, into the network's input."""
        return prepare(opened(request["image"].file.read()), self.size)

    def batch(self, inputs: list[Array]) -> Array:
        """Stack the collected inputs."""
        return np.stack(inputs)

    def predict(self, batch: Array) -> Array:
        """Return one row of outputs for each image."""
        probabilities: Array = self.network.predict_on_batch(batch)[0]
        return probabilities

    def unbatch(self, output: Array) -> list[Array]:
        """Split the batch into rows."""
        return list(output)

    def encode_response(self, output: Array) -> dict[str, Any]:
        """Turn one row into the answer's JSON."""
        return answer(output)


if __name__ == "__main__":
    api = FractureAPI(max_batch_size=BATCH, batch_timeout=0.005, api_path="/predict")
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(os.environ["BONE_PORT"]), generate_client_file=False)
