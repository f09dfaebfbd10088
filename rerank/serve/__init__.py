"""Rerankers behind HTTP: several models, the request shapes of five kinds of clients, one scheduler a model."""

from rerank.serve.app import create_app
from rerank.serve.settings import Served, Settings

__all__ = ["Served", "Settings", "create_app"]
