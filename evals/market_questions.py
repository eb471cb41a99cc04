"""Market questions against a running VeloZ, as an Inspect AI task. No model is needed: VeloZ answers.

`inspect eval evals/market_questions.py --model none -T url=http://127.0.0.1:8480`, or `python -m evals.run`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evals.client import DEFAULT_USER, VelozClient, find_password, find_service
from evals.scoring import Verdict, figures_are_sourced, only_what_was_asked, right_tools_called

try:
    from inspect_ai import Task, task
    from inspect_ai import eval as inspect_eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import CORRECT, INCORRECT, Score, Scorer, Target, accuracy, scorer
    from inspect_ai.solver import Generate, Solver, TaskState, solver
except ImportError as error:
    raise ImportError("The evals need Inspect AI: install the extra with `pip install 'veloz[evals]'`.") from error

__all__ = ["inspect_eval", "load_dataset", "market_questions"]

DATASET = Path(__file__).with_name("datasets") / "market_questions.jsonl"
OUTCOME = "outcome"


def load_dataset(path: Path = DATASET) -> MemoryDataset:
    """One sample a line: id, question, tools expected, order (whether a suggestion is asked for)."""
    samples = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        metadata = {"tools": row["tools"], "order": row.get("order", False)}
        samples.append(Sample(input=row["question"], target=", ".join(row["tools"]), id=row["id"], metadata=metadata))
    return MemoryDataset(samples, name=path.stem)


@solver
def ask_veloz(url: str | None = None, user: str = DEFAULT_USER) -> Solver:
    """Asks the service, logged in as the user; the run's outcome goes into the sample's metadata."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        async with VelozClient(find_service(url)) as client:
            await client.log_in(user, find_password(user))
            outcome = await client.ask(state.input_text)
        state.metadata[OUTCOME] = outcome
        state.output.completion = outcome["answer"] or ""
        state.output.model = outcome["model"] or ""
        return state

    return solve


def _score(verdict: Verdict) -> Score:
    return Score(value=CORRECT if verdict.passed else INCORRECT, explanation=verdict.explanation)


@scorer(metrics=[accuracy()])
def figures_sourced() -> Scorer:
    """Every figure's value equals the tool result at its path."""

    async def score(state: TaskState, target: Target) -> Score:
        return _score(figures_are_sourced(state.metadata[OUTCOME]))

    return score


@scorer(metrics=[accuracy()])
def tools_right() -> Scorer:
    """The expected tools were called, and nothing else that matters."""

    async def score(state: TaskState, target: Target) -> Score:
        return _score(right_tools_called(state.metadata[OUTCOME], state.metadata["tools"]))

    return score


@scorer(metrics=[accuracy()])
def no_unasked_order() -> Scorer:
    """A suggestion only where one was asked for."""

    async def score(state: TaskState, target: Target) -> Score:
        return _score(only_what_was_asked(state.metadata[OUTCOME], order=state.metadata["order"]))

    return score


@task
def market_questions(url: str | None = None, user: str = DEFAULT_USER) -> Task:
    """Is VeloZ right, sourced and restrained about the market?"""
    options: dict[str, Any] = {"scorer": [figures_sourced(), tools_right(), no_unasked_order()]}
    return Task(dataset=load_dataset(), solver=ask_veloz(url, user), **options)
