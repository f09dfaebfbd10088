"""A query and three texts that every adapter is asked about."""

QUERY = "how many people live in Berlin?"
TEXTS = (
    "New York City is famous for the Metropolitan Museum of Art.",
    "Berlin has a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
    "Berlin is well known for its museums.",
)
BEST = (1, 2, 0)
"""The order of the MiniLM-L12 cross-encoder."""
