"""One folder an op: `reference.py` is its definition in torch, `triton.py` a faster provider, `__init__.py` the `Op`.

What is here is imported by the engine and by nobody else; nothing here is imported when there is no torch.
"""
