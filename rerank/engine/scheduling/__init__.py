"""How the scheduler works: turns, asking, delivery, retries."""
