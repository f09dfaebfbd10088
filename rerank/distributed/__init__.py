"""The same work on many machines: shards, a store that they are finished into, and a crew that carries them.

>>> crew = Crew(workers=8, ray="auto", gpus=1)
>>> run_pipeline(tables, dataset, "run.trec", store="s3://bucket/job", crew=crew)

Without Ray the crew is this process. A shard is finished when it lies in the store: whatever is killed, the same call
asks only for what is missing, and its output is the same byte for byte.
"""

from rerank.distributed.crew import Crew
from rerank.distributed.pipelines import Job, run_pipeline
from rerank.distributed.store import Store

__all__ = ["Crew", "Job", "Store", "run_pipeline"]
