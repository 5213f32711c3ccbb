import keras
import numpy as np
import pytest
import tf_keras
from PIL import Image

from config import SCALINGS
from inference.scaling import find_scaling
from model_loader import ModelError
from prediction import mean_brightness
from preprocessing import prepare
from tests.support.models import brightness_model, load_file, with_attributes

BOTH = {"Keras 3": keras, "Keras 2": tf_keras}
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.float32)


def adapted(k, high):
    layer = k.layers.Normalization()
    layer.adapt(PIXELS * high / 255)
    return layer


def fitted_normalization(k, high):
    """Batch normalisation at the input, as some steps of training on pixels up to `high` leave it."""
    layer = k.layers.BatchNormalization()
    layer.build((None, 16, 16, 3))
    layer.set_weights([np.ones(3), np.zeros(3), np.full(3, 0.4 * high), np.full(3, (0.25 * high) ** 2)])
    return layer


def preset(k):
    """A data augmentation and a preprocessing that were models of their own."""
    augmented = k.Sequential([k.Input((16, 16, 3)), k.layers.RandomFlip("horizontal"), k.layers.CenterCrop(12, 12)])
    inner = k.Input((12, 12, 3))
    scaled = k.Model(inner, k.layers.Rescaling(1 / 127.5, offset=-1)(inner))
    return lambda image: scaled(augmented(image))


def branches(k):
    return lambda image: k.layers.Concatenate()([k.layers.Rescaling(1 / 255)(image), adapted(k, 255)(image)])


def disagreeing_branches(k):
    return lambda image: k.layers.Concatenate()([k.layers.Rescaling(1 / 255)(image), image])


AT_THE_INPUT = {
    "nothing": (lambda k: lambda image: image, None),
    "a crop alone": (lambda k: k.layers.CenterCrop(12, 12), None),
    "a rescaling by 1": (lambda k: k.layers.Rescaling(1.0), None),
    "0 to 255 divided by 255": (lambda k: k.layers.Rescaling(1 / 255), "none"),
    "0 to 255 to -1 to 1": (lambda k: k.layers.Rescaling(1 / 127.5, offset=-1), "none"),
    "0 to 255 less 127.5": (lambda k: k.layers.Rescaling(1.0, offset=-127.5), "none"),
    "0 to 1 to -1 to 1": (lambda k: k.layers.Rescaling(2.0, offset=-1), "unit"),
    "0 to 1 to 0 to 255": (lambda k: k.layers.Rescaling(255.0), "unit"),
    "each channel by itself": (lambda k: k.layers.Rescaling([0.017, 0.018, 0.017], offset=[-2.1, -2, -1.8]), "none"),
    "normalised from 0 to 255": (lambda k: adapted(k, 255), "none"),
    "normalised from 0 to 1": (lambda k: adapted(k, 1), "unit"),
    "normalised by stated numbers": (lambda k: k.layers.Normalization(mean=[0.5] * 3, variance=[0.07] * 3), "unit"),
    "divided by 255, then normalised": (
        lambda k: lambda image: adapted(k, 1)(k.layers.Rescaling(1 / 255)(image)),
        "none",
    ),
    "batch normalisation from 0 to 255": (lambda k: fitted_normalization(k, 255), "none"),
    "batch normalisation from 0 to 1": (lambda k: fitted_normalization(k, 1), "unit"),
    "models within the model": (preset, "none"),
    "two branches that agree": (branches, "none"),
    "two branches that do not": (disagreeing_branches, None),
}
KERAS_2_OPERATORS = {
    "x / 255": (lambda x: x / 255.0, "none"),
    "x / 127.5 - 1": (lambda x: x / 127.5 - 1, "none"),
    "x * (1 / 255)": (lambda x: x * (1 / 255), "none"),
    "x - 128": (lambda x: x - 128.0, "none"),
    "x + -128": (lambda x: x + -128.0, "none"),
    "255 - x": (lambda x: 255.0 - x, "none"),
    "2 * x - 1": (lambda x: 2.0 * x - 1, "unit"),
    "1 - x": (lambda x: 1.0 - x, "unit"),
    "1 / x": (lambda x: 1.0 / x, None),
    "x - x": (lambda x: x - x, None),
    "caffe": (tf_keras.applications.resnet50.preprocess_input, "none"),
    "torch": (tf_keras.applications.densenet.preprocess_input, "none"),
    "tf": (tf_keras.applications.mobilenet_v2.preprocess_input, "none"),
}


def saved(k, path, change):
    image = k.Input((16, 16, 3))
    flat = k.layers.GlobalAveragePooling2D()(k.layers.Conv2D(4, 3)(change(image)))
    k.Model(image, k.layers.Dense(2, activation="softmax")(flat)).save(path)
    return path


@pytest.mark.parametrize("generation", BOTH)
@pytest.mark.parametrize("name", AT_THE_INPUT)
def test_layers_at_the_input_show_which_pixels_the_network_takes(generation, name, tmp_path):
    build, expected = AT_THE_INPUT[name]
    k = BOTH[generation]
    assert find_scaling(saved(k, tmp_path / "model.h5", build(k))) == expected


@pytest.mark.parametrize("name", KERAS_2_OPERATORS)
def test_operators_of_keras_2_at_the_input_show_it_too(name, tmp_path):
    operator, expected = KERAS_2_OPERATORS[name]
    assert find_scaling(saved(tf_keras, tmp_path / "model.h5", operator)) == expected


@pytest.mark.parametrize("generation", BOTH)
def test_layers_of_a_sequential_model_and_of_a_backbone_within_it_show_it_too(generation, tmp_path):
    k = BOTH[generation]
    backbone = k.applications.MobileNetV3Small((32, 32, 3), include_top=False, weights=None, minimalistic=True)
    k.Sequential([k.Input((32, 32, 3)), backbone, k.layers.Flatten(), k.layers.Dense(2)]).save(tmp_path / "model.h5")
    assert find_scaling(tmp_path / "model.h5") == "none"


def test_an_attribute_and_a_variable_have_precedence_over_the_layers(tmp_path):
    path = saved(keras, tmp_path / "model.h5", keras.layers.Rescaling(1 / 255))
    assert load_file(path).settings["scaling"] == ("none", "network")
    assert load_file(path, BONE_SCALING="unit").settings["scaling"] == ("unit", "environment")
    assert load_file(with_attributes(path, scaling="tf")).settings["scaling"] == ("tf", "file")


def test_every_scaling_gives_what_keras_gives():
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
    decoded = Image.fromarray(image[0])
    pixels = image.astype(np.float32)
    expected = {"unit": pixels / 255, "none": pixels}
    for mode in ("tf", "caffe", "torch"):
        preprocess = keras.applications.imagenet_utils.preprocess_input
        expected[mode] = preprocess(pixels.copy(), data_format="channels_last", mode=mode)
    assert expected.keys() == SCALINGS.keys()
    for scaling, values in expected.items():
        found = prepare(decoded, (40, 40), 3, scaling, "stretch")
        assert found.dtype == np.float32
        assert np.allclose(found, values, atol=1e-4)
        assert SCALINGS[scaling].low - 1 <= found.min() < found.max() <= SCALINGS[scaling].high + 1


@pytest.mark.parametrize("scaling", SCALINGS)
def test_brightness_is_that_of_the_image_whatever_the_scaling(scaling, brightness_file):
    classifier = load_file(brightness_file)
    brightness = mean_brightness(classifier.with_scaling(scaling), SCALINGS[scaling].apply(PIXELS))
    assert brightness == pytest.approx(PIXELS.mean() / 255, abs=1e-5)


@pytest.mark.parametrize("scaling", ["caffe", "torch"])
def test_a_scaling_of_three_channels_is_refused_for_one(tmp_path, scaling):
    brightness_model(channels=1).save(tmp_path / "model.h5")
    with pytest.raises(ModelError, match=f"BONE_SCALING is {scaling}, which needs 3 channels, but its input has 1"):
        load_file(tmp_path / "model.h5", BONE_SCALING=scaling)


# -- networks that were trained on two kinds of drawn picture --------------------------------------------------------


def drawn(count, seed):
    """Bright lines and bright blocks on grey noise: uint8 (n, 32, 32, 3), and 0 or 1."""
    random = np.random.default_rng(seed)
    images = random.normal(90, 12, (count, 32, 32, 1))
    kinds = np.arange(count) % 2
    for image, kind in zip(images, kinds, strict=True):
        row, column = random.integers(2, 20, 2)
        if kind:
            image[row : row + 9, column : column + 9] = 230
        else:
            image[row : row + 2, :] = 230
    return np.repeat(images.clip(0, 255), 3, axis=3).astype(np.uint8), kinds


def trained(k, change, scale, path):
    """Train for some seconds on pixels that `scale` makes of 0 to 255, and save."""
    k.utils.set_random_seed(1)
    image = k.Input((32, 32, 3))
    x = k.layers.Conv2D(8, 5, strides=2, activation="relu")(change(image))
    x = k.layers.Conv2D(16, 5, strides=2, activation="relu")(x)
    model = k.Model(image, k.layers.Dense(2, activation="softmax")(k.layers.Flatten()(x)))
    model.compile(k.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    images, kinds = drawn(256, 0)
    model.fit(scale(images.astype(np.float32)), kinds, epochs=12, batch_size=32, verbose=0)
    model.save(path)
    return path


TRAINED = {
    "rescaled inside": (keras, lambda k: k.layers.Rescaling(1 / 255), lambda x: x, {}),
    "divided inside, Keras 2": (tf_keras, lambda k: lambda x: x / 127.5 - 1, lambda x: x, {}),
    "unit": (keras, lambda k: lambda x: x, lambda x: x / 255, {}),
    "torch, stated": (keras, lambda k: lambda x: x, SCALINGS["torch"].apply, {"BONE_SCALING": "torch"}),
    "tf, stated, Keras 2": (tf_keras, lambda k: lambda x: x, SCALINGS["tf"].apply, {"BONE_SCALING": "tf"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_network_is_right_on_all_of_40_images(name, tmp_path):
    k, change, scale, environment = TRAINED[name]
    classifier = load_file(trained(k, change(k), scale, tmp_path / "model.h5"), **environment)
    images, kinds = drawn(40, 1)
    size, scaling = classifier.input_size, classifier.scaling
    inputs = np.concatenate([prepare(Image.fromarray(image), size, 3, scaling, "stretch") for image in images])
    assert np.array_equal(classifier.predict(inputs).probabilities.argmax(axis=1), kinds)
