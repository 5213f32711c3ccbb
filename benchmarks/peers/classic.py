"""The classic service: a Flask view that calls `model.predict`. `python -m benchmarks.peers.classic` serves."""

import os
from typing import Any

from flask import Flask, request

from benchmarks.peers.network import answer, load, opened, prepare


def create() -> Flask:
    """Load the network and build the application around it; gunicorn calls this too."""
    app = Flask(__name__)
    network, size = load()

    @app.post("/predict")
    def predict() -> dict[str, Any]:
        image = prepare(opened(request.files["image"].read()), size)
        return answer(network.predict(image[None], verbose=0)[0][0])

    return app


if __name__ == "__main__":
    create().run(host="127.0.0.1", port=int(os.environ["BONE_PORT"]), threaded=True)
