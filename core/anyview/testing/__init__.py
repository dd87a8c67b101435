"""Contract checks for authors of plugins: call them from a test; they raise AssertionError with one sentence that says what is wrong."""

from anyview.testing.contract import check_encoder, check_objective, check_source, check_view_maker
from anyview.testing.exactness import check_rank_exact, check_stage_rank_exact
from anyview.testing.processes import run_on_ranks
from anyview.testing.tiny import tiny_batch, tiny_stage, tiny_views

__all__ = [
    "check_encoder",
    "check_objective",
    "check_rank_exact",
    "check_source",
    "check_stage_rank_exact",
    "check_view_maker",
    "run_on_ranks",
    "tiny_batch",
    "tiny_stage",
    "tiny_views",
]
