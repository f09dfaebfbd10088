"""How causal models write: requests, slots, choosing, stopping."""
