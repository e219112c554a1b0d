"""The OpenAPI document, and a page that shows it: one file of our own, nothing from the network, open to everyone."""

import base64
import hashlib
import re
from functools import partial
from importlib import resources
from typing import Final

import anyio
import msgspec
from litestar import MediaType, Request, Response, get
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec

from taskengine.api.openapi import make_document

__all__ = ["DOCUMENT_PATH", "PAGE_PATH", "ROUTES"]

PAGE_PATH: Final = "/schema"
DOCUMENT_PATH: Final = "/schema/openapi.json"

_DOCUMENT: Final = "openapi_document"


@get(
    DOCUMENT_PATH,
    opt={"scope": "open"},
    media_type=MediaType.JSON,
    responses={200: ResponseSpec(data_container=dict, description="OpenAPI 3.1.", generate_examples=False)},
)
async def openapi_document(request: Request[None, None, State]) -> Response[bytes]:
    """This document. The same for everyone: it says what the API can do, and nothing about what is stored here."""
    known: bytes | None = request.app.state.get(_DOCUMENT)
    if known is None:
        # In a thread: some tenths of a second, once, are too long for everyone else on the loop.
        document = await anyio.to_thread.run_sync(partial(make_document, request.app.state.handlers))
        known = request.app.state[_DOCUMENT] = msgspec.json.encode(document)
    return Response(known, media_type=MediaType.JSON)


@get(PAGE_PATH, opt={"scope": "open"}, media_type=MediaType.HTML, sync_to_thread=False)
def schema_page() -> Response[bytes]:
    """A page that lists the routes and tries them. A token that is typed there stays in the page's memory."""
    return Response(_PAGE, media_type=MediaType.HTML, headers={"Content-Security-Policy": _POLICY})


def _digests(tag: str) -> str:
    """The inline blocks of this tag, as a Content-Security-Policy names them: nothing else may run."""
    blocks = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), _PAGE, flags=re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(block).digest()).decode()}'" for block in blocks)


_PAGE: Final = resources.files("taskengine.api").joinpath("page.html").read_bytes()
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_digests('script')}",
        f"style-src {_digests('style')}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

ROUTES: Final = [openapi_document, schema_page]
