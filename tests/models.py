"""Small Keras networks whose answers are known by hand, written to real files by the tests that serve them."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers


def brightness_model(
    size: tuple[int | None, int | None] = (32, 32), channels: int = 3, none: float = 0.0, name: str = "probabilities"
) -> keras.Model:
    """Two classes whose probabilities are darkness and mean brightness; `none` > 0 adds a third output of that size."""
    image = keras.Input((*size, channels))
    outputs = 3 if none else 2
    head = layers.Dense(outputs, name=name)
    model = keras.Model(image, head(layers.GlobalAveragePooling2D()(image)))
    scale = (1 - none) / channels
    kernel = np.zeros((channels, outputs))
    kernel[:, 0], kernel[:, 1] = -scale, scale
    bias = [1 - none, 0.0, none][:outputs]
    head.set_weights([kernel, np.array(bias)])
    return model
