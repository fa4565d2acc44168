"""``/``: the dashboard, out of the package; read once, served from memory.

What compresses lies beside its compressed forms, made by the build at their highest level: nothing is compressed here.
"""

import hashlib
import mimetypes
from pathlib import Path
from typing import Any, NamedTuple

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from tickcast.gateway.security import TOKEN_COOKIE
from tickcast.gateway.worker import Worker

__all__ = ["HANDLERS", "WEB_DIRECTORY"]

WEB_DIRECTORY = Path(__file__).parent.parent / "_web"

_HASHED = "assets/"
"""Names below this change with their content: they may be kept for ever."""
_FOR_EVER, _ASK_AGAIN = "public, max-age=31536000, immutable", "no-cache"
_SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; style-src 'self'; "
        "img-src 'self' data:; font-src 'self'; manifest-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_NOT_BUILT = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>tickcast</title>
<h1>The dashboard is not built</h1>
<p>This gateway runs from a source tree without it. Run <code>make dashboard</code>, or install the wheel,
and start again.
<p>Meanwhile: <a href="/api/status">/api/status</a>, <a href="/schema">/schema</a>, <a href="/metrics">/metrics</a>,
and WebSocket at <code>/ws/marketdata</code>.
"""


_CODINGS = {"br": ".br", "gzip": ".gz"}
"""Content codings in the order of our preference, and the suffix of the files that hold them."""


class _File(NamedTuple):
    bodies: dict[str, bytes]
    """By content coding; ``identity`` is always there."""
    kind: str
    etag: str


_files: dict[str, _File] | None = None


def _dashboard() -> dict[str, _File]:
    global _files  # noqa: PLW0603  # read at the first request, not in every process that imports this
    if _files is None:
        _files = {path.relative_to(WEB_DIRECTORY).as_posix(): _read(path) for path in _all_files()}
    return _files


def _all_files() -> list[Path]:
    compressed = tuple(_CODINGS.values())
    return [
        path
        for path in WEB_DIRECTORY.rglob("*")
        if path.is_file() and not path.name.startswith(".") and not path.name.endswith(compressed)
    ]


def _read(path: Path) -> _File:
    bodies = {"identity": path.read_bytes()}
    for coding, suffix in _CODINGS.items():
        beside = path.with_name(path.name + suffix)
        if beside.is_file():
            bodies[coding] = beside.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if kind in ("font/woff2", "application/font-woff2") or path.suffix == ".woff2":
        kind = "font/woff2"
    if kind.startswith("text/") or kind == "application/javascript":
        kind += "; charset=utf-8"
    return _File(bodies, kind, hashlib.sha256(bodies["identity"]).hexdigest()[:16])


def _serve(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    files = _dashboard()
    file = files.get(name)
    if file is None:
        if name == "index.html":
            return Response(_NOT_BUILT, status_code=404, headers=_SAFE | {"content-type": "text/html; charset=utf-8"})
        raise NotFoundException(detail=f"there is no /{name}")
    caching = _FOR_EVER if name.startswith(_HASHED) else _ASK_AGAIN
    coding = _coding(request.headers.get("accept-encoding", ""), file)
    etag = f'"{file.etag}-{coding}"'
    headers = _SAFE | {"content-type": file.kind, "etag": etag, "cache-control": caching, "vary": "accept-encoding"}
    if coding != "identity":
        headers["content-encoding"] = coding
    if request.headers.get("if-none-match") == etag:
        return Response(b"", status_code=304, headers=headers)
    return Response(file.bodies[coding], headers=headers)


def _coding(accepted: str, file: _File) -> str:
    """Return the best coding that the client takes; what it gives a weight of 0 it refuses."""
    weights = dict(_weight(part) for part in accepted.lower().split(","))
    for coding in _CODINGS:
        if coding in file.bodies and weights.get(coding, weights.get("*", 0.0)) > 0:
            return coding
    return "identity"


def _weight(part: str) -> tuple[str, float]:
    name, _, parameter = part.partition(";")
    try:
        return name.strip(), float(parameter.partition("q=")[2] or 1)
    except ValueError:
        return name.strip(), 0.0


@get("/", include_in_schema=False)
async def index(request: Request[Any, Any, Any], worker: NamedDependency[Worker]) -> Response[bytes]:
    """Return the page. A token in the query goes into a cookie, so that the page's own requests carry it."""
    response = _serve(request, "index.html")
    token = request.query_params.get("token")
    if token is not None and token == worker.config.web.auth_token:
        response.set_cookie(TOKEN_COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response


@get("/{path:path}", include_in_schema=False)
async def file(request: Request[Any, Any, Any], path: FromPath[str]) -> Response[bytes]:
    """Return a file of the dashboard."""
    return _serve(request, str(path).lstrip("/"))


HANDLERS = (index, file)
