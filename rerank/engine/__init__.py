"""The hot loop: the scheduler and its journal (no torch), tokens, packing and the forward passes."""
