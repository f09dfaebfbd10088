"""How causal models are run: packed rows, a pool of keys and values, shared beginnings."""
