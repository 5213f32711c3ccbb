"""The service: create_app() and its API's routes. `python app.py` serves, `python app.py check FILE` checks a model."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from flask import Blueprint, Flask, Response, g, jsonify, request
from PIL.Image import Image

import explanation
from config import VERSION, Config
from model_loader import (
    Classifier,
    Images,
    ModelError,
    Outputs,
    describe_classifier,
    describe_file,
    inspect,
    load,
)
from prediction import (
    Verdict,
    answer,
    compare_scalings,
    describe_verdict,
    inputs_for,
    judge_outputs,
    mean_brightness,
    watched_scores,
)
from preprocessing import ACCEPTED_FORMATS, DecoderFacts, ImageError, decode, is_blank
from web import command_line, hooks
from web.errors import ApiError
from web.hooks import admitted, milliseconds, timed
from web.messages import CAVEATS, INTENDED_USE, none_of_them
from web.metrics import CONTENT_TYPE
from web.pages import pages
from web.problems import describe
from web.state import Service, asks_for, language, state
from web.uploads import checked, one_image, several_images

api: Final = Blueprint("api", __name__)
monitoring: Final = Blueprint(hooks.MONITORING, __name__)
api.before_request(hooks.admit_client)


def create_app(config: Config, service: Service) -> Flask:
    """Build the application around its settings and a service whose classifier may arrive later."""
    app = Flask(__name__)
    app.jinja_env.globals["formats"] = ACCEPTED_FORMATS
    hooks.install(app, config, service)
    for blueprint in (api, monitoring, pages):
        app.register_blueprint(blueprint)
    hooks.start_series(app)
    return app


@api.post("/predict")
def predict() -> Response:
    """Classify the radiograph in the form field `image`; `?detail=1` and `?explain=1` add how and where."""
    classifier: Classifier = state().service.require()
    explain = asks_for("explain")
    with state().admissions.explanations.slot() if explain else nullcontext():
        body = _predict(classifier, lambda: one_image(request, state().config.max_upload_bytes), explain=explain)
    return jsonify(body)


@api.post("/predict/batch")
def predict_batch() -> Response:
    """Classify several radiographs in repeated form fields `image`: answers or errors, in their order."""
    config, classifier = state().config, state().service.require()
    with state().admissions.batches.slot():  # a batch is in memory from its first to its last answer
        images = several_images(request, config.max_batch, config.max_batch_bytes)
        results = [_answer_or_problem(classifier, data) for data in images]
    g.outcome = f"{sum('code' not in result for result in results)} of {len(results)} answered"
    return jsonify(results=results)


def _answer_or_problem(classifier: Classifier, data: bytes) -> dict[str, Any]:
    """Return what /predict would answer for one image of several, or its error: a fault of the image or of ours."""
    try:
        return _predict(classifier, lambda: checked(data, state().config.max_upload_bytes), in_batch=True)
    except Exception as error:  # noqa: BLE001 no error may affect the other images
        return describe(error)


def _predict(
    classifier: Classifier, read: Callable[[], bytes], *, explain: bool = False, in_batch: bool = False
) -> dict[str, Any]:
    """Decode, prepare, predict, answer. `read` returns the upload, once there is a slot."""
    with admitted(always_wait=explain or in_batch):
        image, facts = _decode(read)
        inputs = None if is_blank(image) else _prepare(classifier, image)
        outputs = None if inputs is None else _run(classifier, inputs)
    verdict = judge_outputs(classifier, outputs)
    _count(classifier, inputs, outputs, verdict)
    body = answer(verdict, none_of_them(classifier.class_names, language()))
    if explain:
        body["explanation"] = _explain(classifier, image, inputs, outputs, verdict)
    if asks_for("detail"):
        body["detail"] = describe_verdict(verdict, classifier, facts) | {"milliseconds": milliseconds()}
    return body


@timed("decode")
def _decode(read: Callable[[], bytes]) -> tuple[Image, DecoderFacts]:
    """Return an upright 8-bit image, mode L or RGB, and what the decoder found. Raise ApiError."""
    try:
        return decode(read(), state().config.max_pixels)
    except ImageError as error:
        raise ApiError(error.code, **error.facts) from error


@timed("prepare")
def _prepare(classifier: Classifier, image: Image) -> Images:
    return inputs_for(classifier, image)


@timed("network")
def _run(classifier: Classifier, inputs: Images) -> Outputs:
    return classifier.predict(inputs)


def _count(classifier: Classifier, inputs: Images | None, outputs: Outputs | None, verdict: Verdict) -> None:
    """Record the verdict in the log line and the metrics."""
    g.outcome = verdict.predicted_class or "none"
    brightness = None if inputs is None else mean_brightness(classifier, inputs)
    scores = watched_scores(classifier, outputs)
    state().metrics.count_verdict(g.outcome, verdict.confidence / 10_000, brightness, scores)


@timed("explain")
def _explain(
    classifier: Classifier, image: Image, inputs: Images | None, outputs: Outputs | None, verdict: Verdict
) -> dict[str, Any]:
    """Return where the network found evidence for the likeliest known class; nowhere in a blank image."""
    give_way = state().admissions.predictions.give_way
    found = explanation.explain(classifier, image, inputs, outputs, verdict.best, give_way)
    return explanation.answer(found, CAVEATS[outputs is not None][language()])


@monitoring.get("/health")
def health() -> Response:
    """Answer 200 while the process is alive."""
    return jsonify(status="alive")


@monitoring.get("/ready")
def ready() -> Response:
    """Answer 200 once the model reproduces its golden outputs, 503 before that and while draining."""
    state().service.require()
    return jsonify(status="ready")


@monitoring.get("/model")
def model() -> Response:
    """Return what is loaded, the source of each setting, and the intended use."""
    classifier: Classifier = state().service.require()
    return jsonify(classifier.describe() | {"serviceVersion": VERSION, "intendedUse": INTENDED_USE[language()]})


@monitoring.get("/metrics")
def metrics() -> Response:
    """Return the metrics that Prometheus scrapes."""
    classifier: Classifier = state().service.require()
    facts = {"sha256": classifier.sha256, "version": classifier.stated.get("version"), "engine": classifier.engine}
    names = [*classifier.class_names, "none"]
    state().metrics.describe_model(facts | {"service_version": VERSION}, names, classifier.reference or {})
    return Response(state().metrics.text(), content_type=CONTENT_TYPE)


def main(arguments: list[str]) -> int:
    """Serve, or check a model file; return the exit code. An error at the start is one sentence on standard error."""
    return command_line.run(arguments, _serve, _check, ModelError)


def _serve(config: Config) -> int:
    return command_line.serve(create_app(config, Service()), load, ModelError)


def _check(config: Config, images: Sequence[Path]) -> None:
    """Print what the model file is, how it would be served, and its answers to images. Raise ModelError."""
    file = inspect(config)
    print(f"{config.model_path}:", *describe_file(file), sep="\n")
    classifier = load(config)
    print(*describe_classifier(classifier), sep="\n")
    for path in images:
        print(*compare_scalings(classifier, path, config.max_pixels), sep="\n")


if __name__ == "__main__":
    status = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # threads of TensorFlow may still be running, and nothing of theirs is needed
