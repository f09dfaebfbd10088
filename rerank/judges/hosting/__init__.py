"""Models that somebody else serves: how servers are reached, what they are told, and how their replies are read."""
