"""Negatives: chosen from rankings by stated rules, filtered by teachers, drawn once or anew each epoch."""

from training.mining.mining import Negatives, Scoring, mine, retrieved, sample
from training.mining.rules import Rules

__all__ = ["Negatives", "Rules", "Scoring", "mine", "retrieved", "sample"]
