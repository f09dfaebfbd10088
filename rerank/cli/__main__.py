"""`python -m rerank.cli` is `rerank`."""

from rerank.cli.main import main

main(prog_name="rerank")
