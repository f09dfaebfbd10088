"""Learning to rerank: examples to train on, where they come from, and what is learnt from them."""
