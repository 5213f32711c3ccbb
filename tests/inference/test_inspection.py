import hashlib
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tf_keras

from config import read_config
from inference.inspection import read_model_file
from inference.model_file import inspect_model
from model_loader import ModelError, load
from tests.support.server import serving


@pytest.fixture(scope="module")
def good_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "model.h5"
    image = keras.Input((32, 32, 3), name="image")
    flat = keras.layers.Flatten()(keras.layers.Conv2D(2, 3, name="conv")(image))
    keras.Model(image, keras.layers.Dense(2, activation="softmax", name="head")(flat)).save(path)
    return path


@pytest.fixture
def file(good_file, tmp_path):
    return Path(shutil.copy(good_file, tmp_path / "model.h5"))


def test_inspection_reports_what_a_file_contains(file, tmp_path):
    with h5py.File(file, "a") as opened:
        opened.attrs["bone_threshold"] = 0.7
        opened.attrs["bone_class_names"] = "a,b"
        opened.attrs["other"] = "ignored"
    found = inspect_model(file, tmp_path / "cache")
    assert found == read_model_file(file)
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.keras_version == keras.__version__
    assert set(found.layers) == {"Functional", "InputLayer", "Conv2D", "Flatten", "Dense"}
    assert found.attributes == {"threshold": 0.7, "class_names": "a,b"}


def test_a_model_that_was_compiled_and_fitted_is_accepted(tmp_path):
    for k in (keras, tf_keras):
        model = k.Sequential([k.Input((32, 32, 3)), k.layers.Flatten(), k.layers.Dense(2, activation="softmax")])
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        model.fit(np.zeros((2, 32, 32, 3)), np.eye(2), verbose=0)
        model.save(tmp_path / "model.h5")
        assert "Dense" in read_model_file(tmp_path / "model.h5").layers


def test_a_checksum_beside_the_file_must_match(file):
    beside = file.with_name("model.h5.sha256")
    beside.write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  model.h5\n")
    read_model_file(file)
    for wrong in ("0" * 64 + "  model.h5\n", ""):
        beside.write_text(wrong)
        with pytest.raises(ModelError, match=r"its SHA-256 is not the one in model\.h5\.sha256"):
            read_model_file(file)


# -- hostile files: each would write the file `payload`, read a foreign one, or break the reader ------------------


def edit_config(path, change):
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        changed = change(config)
        file.attrs["model_config"] = json.dumps(config if changed is None else changed)


def layer(config, index):
    return config["config"]["layers"][index]


def replace_layer(class_name, config, **more):
    def change(whole):
        layer(whole, 1).update(class_name=class_name, config={"name": "conv"} | config, **more)

    return lambda path, payload: edit_config(path, change)


def set_in_layer(key, value):
    def change(whole):
        layer(whole, 1)["config"][key] = value

    return lambda path, payload: edit_config(path, change)


def keras_lambda(k):
    """A file whose Lambda layer, saved by Keras itself, writes the payload when it is built."""

    def write(path, payload):
        target = str(payload)

        def run(images, target=target):
            open(target, "w").close()  # noqa: PTH123
            return images

        image = k.Input((32, 32, 3))
        flat = k.layers.Flatten()(k.layers.Lambda(run)(image))
        k.Model(image, k.layers.Dense(2, activation="softmax")(flat)).save(path)

    return write


def nested_lambda(path, payload):
    def change(whole):
        hidden = {"class_name": "Lambda", "config": {"name": "x", "function": "f"}}
        wrapped = {"class_name": "TimeDistributed", "config": {"name": "t", "layer": hidden}}
        layer(whole, 1).update(class_name="Sequential", config={"name": "conv", "layers": [wrapped]})

    edit_config(path, change)


def lambda_among_the_arguments(path, payload):
    def change(whole):
        layer(whole, 1)["inbound_nodes"][0]["kwargs"] = {"mask": {"class_name": "__lambda__", "config": {"value": "x"}}}

    edit_config(path, change)


def whole_config(text):
    def write(path, payload):
        with h5py.File(path, "a") as file:
            file.attrs["model_config"] = text

    return write


def no_config(path, payload):
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]


def in_weights(change):
    def write(path, payload):
        with h5py.File(path, "a") as file:
            change(file["model_weights"], payload)

    return write


def external_link(weights, payload):
    weights["head"]["stolen"] = h5py.ExternalLink("/etc/hostname", "/")


def soft_link(weights, payload):
    weights["loop"] = h5py.SoftLink("/model_weights")


def circle(weights, payload):
    weights["circle"] = weights


def deep(weights, payload):
    weights.create_group("/".join(["deeper"] * 200))


def external_storage(weights, payload):
    weights.create_dataset("stolen", (8,), "u1", external=[("/etc/hostname", 0, 8)])


def virtual(weights, payload):
    layout = h5py.VirtualLayout((8,), "u1")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (8,))
    weights.create_virtual_dataset("stolen", layout)


def enormous(weights, payload):
    weights.create_dataset("bomb", (10**6, 10**6), "f4", chunks=(1000, 1000), compression="gzip")


def many_large(weights, payload):
    for index in range(30):
        weights.create_dataset(f"bomb{index}", (10**8,), "f4", chunks=(10**6,), compression="gzip")


def named_type(weights, payload):
    weights["type"] = np.dtype("f8")


def references(weights, payload):
    weights.create_dataset("references", (4,), h5py.regionref_dtype)


def strange_filter(weights, payload):
    space = h5py.h5s.create_simple((10,))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((10,))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
    h5py.h5d.create(weights.id, b"filtered", h5py.h5t.IEEE_F32LE, space, properties)


def latin_attribute(path):
    with h5py.File(path, "a") as file:
        file.attrs.create("bone_class_names", "luxación,rota".encode("latin-1"), dtype=h5py.string_dtype())


def array_attribute(path, payload):
    with h5py.File(path, "a") as file:
        file.attrs["bone_threshold"] = [0.5, 0.6]


def bytes_of(data):
    return lambda path, payload: path.write_bytes(data)


def truncated(path, payload):
    path.write_bytes(path.read_bytes()[:3000])


def pickled(path, payload):
    class Payload:
        def __reduce__(self):
            return (open, (str(payload), "w"))

    path.write_bytes(pickle.dumps(Payload()))


def keras_archive(path, payload):
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")


def flipped(path, payload):
    data = bytearray(path.read_bytes())
    for index in range(100, len(data), 7):
        data[index] ^= 0xFF
    path.write_bytes(data)


HOSTILE = {
    "Lambda of Keras 3": (keras_lambda(keras), "'Lambda'"),
    "Lambda of Keras 2": (keras_lambda(tf_keras), "'Lambda'"),
    "Lambda within two layers": (nested_lambda, "'Lambda'"),
    "lambda among the arguments": (lambda_among_the_arguments, "'__lambda__'"),
    "lambda as initializer": (
        set_in_layer("kernel_initializer", {"class_name": "__lambda__", "config": {"value": "x"}}),
        "'__lambda__'",
    ),
    "custom layer": (replace_layer("Evil", {}), "'Evil', a custom layer, which Keras cannot load without its code"),
    "layer for other data": (replace_layer("LSTM", {"units": 2}), "'LSTM', a layer that image classifiers do not need"),
    "custom object under the name of a layer": (
        replace_layer("Dense", {"units": 2}, registered_name="evil>Dense", module=None),
        "'evil>Dense'",
    ),
    "class of another module": (replace_layer("Dense", {}, module="os", registered_name=None), "the module 'os'"),
    "class of a module that sounds like keras": (
        replace_layer("Dense", {}, module="kerasy.layers", registered_name=None),
        "the module 'kerasy.layers'",
    ),
    "function of another module": (
        set_in_layer(
            "activation",
            {"class_name": "function", "config": "system", "module": "os", "registered_name": "system"},
        ),
        "the module 'os'|'function'",
    ),
    "function of the built-ins": (
        set_in_layer("activation", {"class_name": "function", "config": "exec", "module": "builtins"}),
        "the module 'builtins'|'function'",
    ),
    "type specification": (
        set_in_layer("dtype", {"class_name": "__typespec__", "spec_name": "x", "module": "os", "config": []}),
        "__typespec__|the module 'os'",
    ),
    "TypeSpec of TensorFlow": (set_in_layer("dtype", {"class_name": "TypeSpec", "type_spec": "x"}), "'TypeSpec'"),
    "TensorFlow function that writes": (
        replace_layer("TFOpLambda", {"function": "io.write_file"}),
        "'io.write_file'; only [+]",
    ),
    "TensorFlow function that runs Python": (replace_layer("TFOpLambda", {"function": "py_function"}), "'py_function'"),
    "TensorFlow function without a name": (replace_layer("TFOpLambda", {"function": ["math.add"]}), "only [+]"),
    "slice that is none": (replace_layer("SlicingOpLambda", {"function": "numpy_function"}), "'numpy_function'"),
    "class method of TensorFlow": (replace_layer("ClassMethod", {"cls_ref": "x"}), "'ClassMethod'"),
    "SavedModel elsewhere": (replace_layer("TFSMLayer", {"filepath": "/tmp/x"}), "'TFSMLayer'"),  # noqa: S108
    "pickled PyTorch module": (replace_layer("TorchModuleWrapper", {"module": "x"}), "'TorchModuleWrapper'"),
    "vocabulary from a file": (replace_layer("StringLookup", {"vocabulary": "/etc/passwd"}), "'StringLookup'"),
    "text from a file": (replace_layer("TextVectorization", {"vocabulary": "/etc/passwd"}), "'TextVectorization'"),
    "class name that is a list": (replace_layer(["Dense"], {}), "where the name of a layer belongs"),
    "class name that is an object": (
        replace_layer({"class_name": "Lambda"}, {}),
        "a layer belongs|'Lambda'",
    ),
    "input of a billion pixels": (
        lambda path, payload: edit_config(
            path, lambda whole: layer(whole, 0)["config"].update(batch_shape=[None, 10**9, 10**9, 3])
        ),
        "is not the size of an image",
    ),
    "input of a billion pixels, as a tuple": (
        lambda path, payload: edit_config(
            path,
            lambda whole: layer(whole, 0)["config"].update(
                batch_shape={"class_name": "__tuple__", "items": [None, 10**5, 10**5, 3]}
            ),
        ),
        "is not the size of an image",
    ),
    "layer of a billion units": (replace_layer("Dense", {"units": 10**9}), "its units 1000000000 is more than"),
    "image enlarged beyond reason": (replace_layer("UpSampling2D", {"size": [10**6, 1]}), "its size .* is more than"),
    "class names that are not text": (
        lambda path, payload: latin_attribute(path),
        "bone_class_names is not text in UTF-8",
    ),
    "no description": (no_config, "it holds weights without the network"),
    "description that is not JSON": (whole_config("{"), "is not JSON"),
    "description nested without end": (whole_config("[" * 100_000), "is not JSON"),
    "external link": (in_weights(external_link), "it holds a link"),
    "soft link": (in_weights(soft_link), "it holds a link"),
    "circle of groups": (in_weights(circle), "nested too deeply"),
    "groups without end": (in_weights(deep), "nested too deeply"),
    "data kept in another file": (in_weights(external_storage), "keeps data in another file"),
    "virtual data set": (in_weights(virtual), "a virtual data set"),
    "array of four terabytes": (in_weights(enormous), "larger than any model"),
    "arrays too large together": (in_weights(many_large), "larger than any model"),
    "named type": (in_weights(named_type), "neither group nor data set"),
    "references": (in_weights(references), "of a type that models do not have"),
    "compression by a plug-in": (in_weights(strange_filter), "compressed in a way"),
    "threshold that is a list": (array_attribute, "bone_threshold is not a single string or number"),
    "empty file": (bytes_of(b""), "not an HDF5 file"),
    "text": (bytes_of(b"import os\n" * 1000), "not an HDF5 file"),
    "signature alone": (bytes_of(b"\x89HDF\r\n\x1a\n"), "not an HDF5 file"),
    "truncated file": (truncated, "not an HDF5 file"),
    "flipped bits": (flipped, ""),
    "Git LFS pointer": (
        bytes_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
        "it is a Git LFS pointer, not the model; fetch the model with git lfs pull",
    ),
    "pickle": (pickled, "not an HDF5 file"),
    ".keras archive": (keras_archive, r"it is a zip archive, as \.keras files are; save the model with"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_with_a_sentence_and_none_of_its_code_runs(name, file, tmp_path):
    write, sentence = HOSTILE[name]
    payload = tmp_path / "payload"
    write(file, payload)
    payload.unlink(missing_ok=True)  # Keras runs a Lambda while it builds the model that is then saved
    with pytest.raises(ModelError, match=rf"(?s)^{file} cannot be used: .*({sentence}).*\.$"):
        load(read_config({"BONE_MODEL_PATH": str(file)}))
    assert not payload.exists()


# The compiled engine starts TensorFlow again for each file.
EITHER_ENGINE = pytest.mark.parametrize("engine", ["tensorflow", pytest.param("auto", marks=pytest.mark.slow)])


@pytest.mark.parametrize(
    "text",
    ["[]", "null", '{"class_name": "Functional"}', '{"class_name": "Functional", "config": {}}', '{"config": {}}'],
)
@EITHER_ENGINE
def test_a_nonsensical_network_description_is_refused(file, text, engine):
    whole_config(text)(file, None)
    with pytest.raises(ModelError, match="Keras cannot rebuild it"):
        load(read_config({"BONE_MODEL_PATH": str(file), "BONE_ENGINE": engine}))


@EITHER_ENGINE
def test_an_activation_unknown_to_keras_is_refused(file, engine):
    set_in_layer("activation", "os.system")(file, None)
    with pytest.raises(ModelError, match="Keras cannot rebuild it"):
        load(read_config({"BONE_MODEL_PATH": str(file), "BONE_ENGINE": engine}))


def test_the_server_does_not_start_with_a_hostile_file(file, tmp_path):
    payload = tmp_path / "payload"
    keras_lambda(keras)(file, payload)
    payload.unlink(missing_ok=True)
    with serving(BONE_MODEL_PATH=str(file)) as server:
        assert server.process.wait(60) == 1
        assert "which runs code of its own" in server.output
    assert not payload.exists()


def test_a_file_that_is_also_of_another_format_is_refused_under_that_name(file, tmp_path):
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("config.json", "{}")
    found = inspect_model(file, tmp_path / "cache")
    for name in ("model.keras", "model.KERAS", "model", "h5"):
        other = Path(shutil.copy(file, tmp_path / name))
        with pytest.raises(
            ModelError, match=r"it is an HDF5 file, so its name must end in \.h5 or \.hdf5; rename it\.$"
        ):
            inspect_model(other, tmp_path / "cache")
    for name in ("model.hdf5", "MODEL.H5"):
        assert inspect_model(Path(shutil.copy(file, tmp_path / name)), tmp_path / "cache") == found


def test_a_folder_is_not_a_model(tmp_path):
    with pytest.raises(ModelError, match="there is no such file"):
        read_model_file(tmp_path)
