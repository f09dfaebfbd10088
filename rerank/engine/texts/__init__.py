"""Texts to token ids: kept, cut, and put together into prompts."""
