"""Which question next: plain generators that know no model. `rerank list` names them all."""
