"""How encoder-decoders are run: packed encoder, folded decoder, writing."""
