"""Rerankers inside of other people's frameworks, one file each; a framework is imported when its file is."""
