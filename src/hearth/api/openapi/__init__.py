"""The served description of the API: an OpenAPI 3.1 document and a page to read it by, both made from the routes."""

from hearth.api.openapi.document import document
from hearth.api.openapi.page import page

__all__ = ["document", "page"]
