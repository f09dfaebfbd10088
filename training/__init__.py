"""Learning to rerank. Empty in this release: the name is taken, so that what lands here breaks nobody's imports."""
