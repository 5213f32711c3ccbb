"""The HTML pages: one to classify radiographs, one to try the API; and the API's description."""

import json
from pathlib import Path
from typing import Final

from flask import (
    Blueprint,
    Response,
    current_app,
    jsonify,
    make_response,
    render_template,
    request,
    send_from_directory,
)

from web import openapi
from web.state import language, state

pages: Final = Blueprint("pages", __name__)

_SAME_ORIGIN: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@pages.get("/")
def page() -> Response:
    """Show the web page, which calls /predict as any client does, in the language of `?lang=` or of the browser."""
    static = Path(str(current_app.static_folder))
    chosen = language() if "lang" in request.args else request.accept_languages.best_match(("es", "en"), language())
    html = render_template(
        "page.html",
        language=chosen,
        texts=json.loads((static / "texts" / f"{chosen}.json").read_text(encoding="utf-8")),
        modules=sorted(path.stem for path in (static / "js").glob("*.js")),
        megabytes=f"{state().config.max_upload_bytes / 1e6:g}",
    )
    return _guarded(html, f"{_SAME_ORIGIN}; require-trusted-types-for 'script'; trusted-types 'none'")


@pages.get("/model-card")
def model_card() -> Response:
    """Show MODEL_CARD.md, as it is written."""
    return send_from_directory(current_app.root_path, "MODEL_CARD.md", mimetype="text/plain")


@pages.get("/docs")
def docs() -> Response:
    """Show Swagger UI over /openapi.json; it sets styles on its elements, so its policy allows those."""
    return _guarded(
        render_template("docs.html"), _SAME_ORIGIN.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    )


@pages.get("/openapi.json")
def openapi_document() -> Response:
    """Return the description of this API."""
    return jsonify(openapi.describe(state().config, request.script_root))


def _guarded(html: str, policy: str) -> Response:
    response = make_response(html)
    response.headers.update(_HEADERS | {"Content-Security-Policy": policy})
    return response
