"""A page to look at rankings: static files, and what they ask the server for."""

from rerank.serve.page.routes import add_page

__all__ = ["add_page"]
