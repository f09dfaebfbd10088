"""The other ways: each function loads a peer and gives (work, batch size) -> scores in the order of the work."""
