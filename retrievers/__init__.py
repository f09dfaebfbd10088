"""First stages: what finds candidates in a collection."""
