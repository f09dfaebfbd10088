"""Queries, lists and documents changed on purpose, to see what becomes of a ranking."""

from rerank.perturb.kinds import GROUPS, KINDS, Perturbation, Perturbed, choose

__all__ = ["GROUPS", "KINDS", "Perturbation", "Perturbed", "choose"]
