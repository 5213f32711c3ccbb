"""A .h5 of unknown origin -> what it contains, or a refusal. Reads with h5py alone, in a child process.

`model_file.py` runs this file by its path, under `python -I`, so it imports nothing of the project.

A Keras file describes its network as JSON. Keras turns each `class_name` in it into an object, some of which run code
that the file brings along. So every one must be on the list below, at any depth, before Keras sees the file.
"""

import contextlib
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import h5py

SUFFIXES: Final = (".h5", ".hdf5")
MAX_FILE_BYTES: Final = 2_000_000_000
MAX_DATASET_BYTES: Final = 2_000_000_000
MAX_CONFIG_CHARACTERS: Final = 50_000_000
MAX_OBJECTS: Final = 100_000
MAX_DEPTH: Final = 64
MAX_SIDE: Final = 4096
MAX_SIZE: Final = 65_536
SHAPES: Final = frozenset({"batch_shape", "batch_input_shape", "input_shape", "build_input_shape"})
SIZES: Final = frozenset(
    """
    units filters size padding cropping n height width target_shape pool_size kernel_size strides dilation_rate
    depth_multiplier num_heads key_dim value_dim output_dim input_dim
    """.split()
)
CHILD_MEMORY_BYTES: Final = 4_000_000_000
ATTRIBUTE_PREFIX: Final = "bone_"
LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
REFUSED: Final = 3  # exit code

LAYERS: Final = frozenset(
    """
    Functional Sequential Model InputLayer
    Activation ReLU LeakyReLU PReLU ELU ThresholdedReLU Softmax
    Dense EinsumDense Conv1D Conv2D Conv2DTranspose DepthwiseConv2D SeparableConv2D
    BatchNormalization LayerNormalization GroupNormalization UnitNormalization RMSNormalization Normalization
    MaxPooling2D AveragePooling2D GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D
    Flatten Reshape Permute RepeatVector ZeroPadding2D Cropping2D UpSampling2D Rescaling Resizing CenterCrop
    Dropout SpatialDropout2D GaussianNoise GaussianDropout AlphaDropout ActivityRegularization
    RandomFlip RandomRotation RandomZoom RandomTranslation RandomContrast RandomBrightness RandomCrop RandomHeight
    RandomWidth
    Add Subtract Multiply Average Maximum Minimum Concatenate Dot Attention AdditiveAttention MultiHeadAttention
    TimeDistributed
    """.split()
)
OTHER_LAYERS: Final = frozenset(  # of Keras; a name on neither list is a custom layer
    """
    Conv1DTranspose Conv3D Conv3DTranspose DepthwiseConv1D SeparableConv1D ConvLSTM1D ConvLSTM2D ConvLSTM3D
    RNN LSTM LSTMCell GRU GRUCell SimpleRNN SimpleRNNCell StackedRNNCells Bidirectional Embedding Masking
    MaxPooling1D MaxPooling3D AveragePooling1D AveragePooling3D GlobalMaxPooling3D GlobalAveragePooling3D
    ZeroPadding1D ZeroPadding3D Cropping1D Cropping3D UpSampling1D UpSampling3D SpatialDropout1D SpatialDropout3D
    GroupedQueryAttention SpectralNormalization Identity Discretization CategoryEncoding Hashing HashedCrossing
    StringLookup IntegerLookup TextVectorization MelSpectrogram STFTSpectrogram TFSMLayer TorchModuleWrapper JaxLayer
    FlaxLayer TensorFlowOpLayer ClassMethod
    """.split()
)
RUNS_CODE: Final = frozenset({"Lambda", "__lambda__"})
KERAS_3_OPERATIONS: Final = frozenset({"TrueDivide", "Divide", "GetItem", "Stack", "Cast"})
PARTS: Final = frozenset(
    """
    Zeros Ones Constant Identity Orthogonal RandomNormal RandomUniform TruncatedNormal VarianceScaling
    GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform STFT
    L1 L2 L1L2 OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg UnitNorm
    DTypePolicy Policy
    __keras_tensor__ __tensor__ __numpy__ __slice__ __ellipsis__ __tuple__ TensorShape
    """.split()
)
KERAS_2_OPERATIONS: Final = {
    "TFOpLambda": frozenset(
        "math.add math.subtract math.multiply math.divide math.truediv nn.bias_add "
        "__operators__.add __operators__.sub __operators__.mul __operators__.truediv".split()
    ),
    "SlicingOpLambda": frozenset({"__operators__.getitem"}),
}
FILTERS: Final = frozenset({1, 2, 3, 32000})  # gzip, shuffle, fletcher32, lzf: need no plug-in


class ModelError(Exception):
    """A model that cannot be served; the message is one sentence: what is wrong and what would be right.

    `keras_may_serve` is true where the compiled engine alone cannot run it.
    """

    def __init__(self, message: str, *, keras_may_serve: bool = False) -> None:
        super().__init__(message)
        self.keras_may_serve = keras_may_serve


@dataclass(frozen=True)
class ModelFile:
    """What a file contains: the Keras version that wrote it, the names of its layers, its attributes `bone_*`."""

    sha256: str
    keras_version: str
    layers: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


def read_model_file(path: Path) -> ModelFile:
    """Inspect the file in this process. Raise ModelError."""
    check_name_and_size(path)
    sha256 = sha256_of(path)
    with h5py.File(path, "r") as file:
        _check_objects(file)
        config = _read_config(file)
        layers = tuple(dict.fromkeys(_check_names(config)))
        keras_version = _text(file.attrs.get("keras_version", "unknown"))
        return ModelFile(sha256, keras_version, layers, _read_attributes(file))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ModelError(message)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def check_name_and_size(path: Path) -> None:
    """Refuse what is not an HDF5 file under the name of one: Keras would read a `.keras` as a zip. Raise ModelError."""
    _require(path.is_file(), "there is no such file; put a Keras .h5 there or set BONE_MODEL_PATH.")
    _require(path.stat().st_size <= MAX_FILE_BYTES, f"it is larger than {MAX_FILE_BYTES:,} bytes.")
    _require(not _is_lfs_pointer(path), "it is a Git LFS pointer, not the model; fetch the model with git lfs pull.")
    _require(
        not zipfile.is_zipfile(path) or h5py.is_hdf5(path),
        "it is a zip archive, as .keras files are; save the model with model.save('name.h5').",
    )
    _require(h5py.is_hdf5(path), "it is not an HDF5 file; save the model with model.save('name.h5').")
    _require(path.suffix.lower() in SUFFIXES, "it is an HDF5 file, so its name must end in .h5 or .hdf5; rename it.")


def _is_lfs_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256. Raise ModelError where NAME.h5.sha256 beside it states another one."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    beside = path.with_name(path.name + ".sha256")
    if beside.is_file():
        stated = beside.read_text(encoding="utf-8", errors="replace").split()[:1]
        _require(
            stated == [sha256],
            f"its SHA-256 is not the one in {beside.name}; put the right file there, or remove that one.",
        )
    return sha256


def _check_objects(file: h5py.File) -> None:
    """Refuse links, external and virtual data, and sizes beyond reason, without following or reading any of them."""
    pending = [(file["/"], 0)]
    count = total_bytes = 0
    while pending:
        group, depth = pending.pop()
        _require(depth <= MAX_DEPTH, "its groups are nested too deeply.")
        for name in group:
            count += 1
            _require(count <= MAX_OBJECTS, "it holds too many objects.")
            link = group.get(name, getlink=True)
            _require(isinstance(link, h5py.HardLink), "it holds a link; save it again with Keras.")
            member = group[name]
            if isinstance(member, h5py.Group):
                pending.append((member, depth + 1))
            else:
                total_bytes += _check_dataset(member)
                _require(total_bytes <= MAX_DATASET_BYTES, "its arrays claim to be larger than any model.")


def _check_dataset(dataset: Any) -> int:
    """Return the size in bytes that the data set claims."""
    _require(isinstance(dataset, h5py.Dataset), "it holds an object that is neither group nor data set.")
    _require(not dataset.is_virtual, "it holds a virtual data set; save the model again with Keras.")
    _require(not dataset.external, "it keeps data in another file; save the model again with Keras.")
    is_plain = dataset.dtype.kind in "biufSO" and h5py.check_ref_dtype(dataset.dtype) is None
    _require(is_plain, "it holds data of a type that models do not have.")
    properties = dataset.id.get_create_plist()
    filters = {properties.get_filter(index)[0] for index in range(properties.get_nfilters())}
    _require(filters <= FILTERS, "it is compressed in a way that Keras does not use; save the model again with Keras.")
    return int(dataset.size or 0) * int(dataset.dtype.itemsize)


def _read_config(file: h5py.File) -> Any:
    _require(
        "model_config" in file.attrs,
        "it holds weights without the network; save the whole model with model.save('name.h5').",
    )
    text = _text(file.attrs["model_config"])
    _require(len(text) <= MAX_CONFIG_CHARACTERS, "its description of the network is too long.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError("its description of the network is not JSON; save the model again with Keras.") from None


def _check_names(config: Any) -> Iterator[str]:
    """Yield the names of the layers, refusing whatever is not on the lists, at any depth."""
    for part in _dictionaries(config):
        _check_module(part)
        _check_sizes(part)
        if "class_name" in part:
            name = part["class_name"]
            _check_class(name, part)
            if name in LAYERS:
                yield name


def _dictionaries(config: Any) -> Iterator[dict[str, Any]]:
    pending = [config]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            yield part
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)


def _check_class(name: Any, part: dict[str, Any]) -> None:
    _require(isinstance(name, str), f"it holds {name!r} where the name of a layer belongs.")
    if name in KERAS_2_OPERATIONS:
        _check_function(name, part)
        return
    if name not in LAYERS | PARTS:
        raise ModelError(_why_refused(name))
    registered = part.get("registered_name")
    _require(
        registered is None or registered == name,
        f"it holds the custom object {registered!r}, which Keras cannot load without its code; use the usual layers.",
    )


def _check_function(name: str, part: dict[str, Any]) -> None:
    inner = part.get("config")
    function = inner.get("function") if isinstance(inner, dict) else None
    _require(
        isinstance(function, str) and function in KERAS_2_OPERATIONS[name],
        f"it runs the TensorFlow function {function!r}; only +, -, *, / and slices are accepted.",
    )


def _why_refused(name: str) -> str:
    if name in KERAS_3_OPERATIONS:
        return "it holds operators between its layers, which Keras 3 cannot load from a .h5; use a Rescaling layer."
    if name in RUNS_CODE:
        return f"it holds {name!r}, which runs code of its own; replace it with the usual layers of Keras."
    if name in OTHER_LAYERS:
        return f"it holds {name!r}, a layer that image classifiers do not need; use the usual layers of Keras."
    return (
        f"it holds {name!r}, a custom layer, which Keras cannot load without its code; use the usual layers of Keras."
    )


def _check_module(part: dict[str, Any]) -> None:
    module = part.get("module")
    if "class_name" in part and module is not None:
        _require(
            isinstance(module, str) and module.split(".")[0] in ("keras", "tf_keras"),
            f"it holds the custom object {part['class_name']!r} of the module {module!r}, which Keras cannot load "
            "without its code; use the usual layers of Keras.",
        )


def _check_sizes(part: dict[str, Any]) -> None:
    """Refuse an input that is not an image, and layers that would need more memory than any network does."""
    for key in SHAPES & part.keys():
        sides = list(_numbers(part[key]))
        _require(all(0 < side <= MAX_SIDE for side in sides), f"its input {part[key]} is not the size of an image.")
    for key in SIZES & part.keys():
        sizes = list(_numbers(part[key]))
        _require(all(abs(size) <= MAX_SIZE for size in sizes), f"its {key} {part[key]} is more than any network needs.")


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers in a value, a list or one of Keras's tuples, at any depth."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)


def _read_attributes(file: h5py.File) -> dict[str, Any]:
    """Return the attributes `bone_*` without the prefix, as plain strings and numbers."""
    names = [name for name in file.attrs if name.startswith(ATTRIBUTE_PREFIX)]
    return {name.removeprefix(ATTRIBUTE_PREFIX): _plain(name, file.attrs[name]) for name in names}


def _plain(name: str, value: Any) -> str | int | float:
    if isinstance(value, str | bytes):
        text = _text(value)
        _require(text.encode("utf-8", "replace").decode() == text, f"its attribute {name} is not text in UTF-8.")
        return text
    _require(getattr(value, "shape", None) == (), f"its attribute {name} is not a single string or number.")
    number: Any = value.item()
    _require(isinstance(number, int | float), f"its attribute {name} is not a single string or number.")
    return cast("int | float", number)


def _limit_memory() -> None:
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 not there on Windows

        with contextlib.suppress(ValueError, OSError):  # a system that sets a lower limit, or does not take one
            resource.setrlimit(resource.RLIMIT_AS, (CHILD_MEMORY_BYTES, CHILD_MEMORY_BYTES))


def main() -> int:
    """Print what the file named on the command line contains as JSON, or the refusal with exit code 3."""
    _limit_memory()
    try:
        found = read_model_file(Path(sys.argv[1]))
    except ModelError as error:
        print(error, end="")
        return REFUSED
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
