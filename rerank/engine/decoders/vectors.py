"""Vectors in place of tokens: a prompt may hold what no token says, such as a passage in one vector of an encoder.

A vector gets a number behind the vocabulary's, and stands in a prompt's segments like any token. Whatever is done with
tokens (sharing, packing, writing) is done with vectors alike, for as long as the table holds them. For models that read
embeddings as they are: Llama, Mistral, Qwen; Gemma would multiply them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

__all__ = ["Vectors"]


class Vectors(nn.Module):
    """A model's table of embeddings, and vectors behind it.

    Args:
        embed: the model's own.
    """

    def __init__(self, embed: nn.Embedding) -> None:
        super().__init__()
        self.embed = embed
        self.count = embed.num_embeddings
        self.extra: Tensor | None = None

    def forward(self, ids: Tensor) -> Tensor:
        """[…] -> […, dim]; a vector comes as it is."""
        if self.extra is None:
            known: Tensor = self.embed(ids)
            return known
        tokens: Tensor = self.embed(ids.clamp(max=self.count - 1))
        beyond = (ids - self.count).clamp(min=0)
        vectors = embedding(beyond, self.extra)  # not indexed: several threads add up that gradient in any order
        return torch.where((ids >= self.count)[..., None], vectors, tokens)
