"""How encoders are taken apart and run: layers, families, passes."""
