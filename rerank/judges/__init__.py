"""Who answers: one file a way of asking a model."""
