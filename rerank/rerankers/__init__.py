"""An algorithm and a judge make a reranker."""
