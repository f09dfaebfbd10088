"""First stages: retrievers that find candidates in a collection. `rerank.registry` names them."""
