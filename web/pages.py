"""The pages for people: the one that shows a radiograph and its verdict, and the one to try the API."""

import json
from pathlib import Path
from typing import Final

from flask import Response, current_app, make_response, render_template

_OF_OURS_ALONE: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def main_page(language: str, formats: str, max_upload_bytes: int) -> Response:
    """Render the page, which calls /predict as any client does, in `language` (es or en)."""
    static = Path(str(current_app.static_folder))
    html = render_template(
        "page.html",
        language=language,
        texts=json.loads((static / "texts" / f"{language}.json").read_text(encoding="utf-8")),
        modules=sorted(path.stem for path in (static / "js").glob("*.js")),
        formats=formats,
        megabytes=f"{max_upload_bytes / 1e6:g}",
    )
    return _guarded(html, f"{_OF_OURS_ALONE}; require-trusted-types-for 'script'; trusted-types 'none'")


def docs_page() -> Response:
    """Render Swagger UI over /openapi.json; it writes styles into its elements, so its policy allows those."""
    return _guarded(
        render_template("docs.html"), _OF_OURS_ALONE.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    )


def _guarded(html: str, policy: str) -> Response:
    response = make_response(html)
    response.headers.update(_HEADERS | {"Content-Security-Policy": policy})
    return response
