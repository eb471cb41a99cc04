"""`python -m evals.run`: the evals against a running service, and whether the release gate holds."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from typing import Any

from evals.client import DEFAULT_USER, ServiceError, find_password, find_service

# The release gate: share of samples that have to pass each scorer.
GATE = {"figures_sourced": 1.0, "tools_right": 0.9, "no_unasked_order": 1.0}
CONCURRENT_SAMPLES = 2


def main(arguments: list[str] | None = None) -> int:
    """0 when the gate holds, 1 when it doesn't, 2 when the evals can't run."""
    parser = argparse.ArgumentParser(prog="python -m evals.run", description=__doc__)
    parser.add_argument("--url", help="the service; else VELOZ_URL, else the one under VELOZ_HOME")
    parser.add_argument("--user", default=DEFAULT_USER, help="who asks (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.add_argument("--log-dir", help="keep Inspect's log here")
    options = parser.parse_args(arguments)
    try:
        url = find_service(options.url)
        find_password(options.user)
        report = _evaluate(url, options.user, options.log_dir)
    except (ServiceError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(report, indent=2) if options.json else _as_text(report))
    return 0 if report["passed"] else 1


def _evaluate(url: str, user: str, log_dir: str | None) -> dict[str, Any]:
    from evals.market_questions import inspect_eval, market_questions

    with tempfile.TemporaryDirectory(prefix="veloz-evals-") as scratch:
        (log,) = inspect_eval(
            market_questions(url, user),
            model="none",
            log_dir=log_dir or scratch,
            display="none",
            max_samples=CONCURRENT_SAMPLES,
            log_realtime=False,
            fail_on_error=False,
        )
        # The log reads its samples when they are first asked for: before the folder goes.
        return _report(log)


def _report(log: Any) -> dict[str, Any]:
    """Scores, failures and the gate. A sample that broke counts as failed in every scorer."""
    samples = log.samples or []
    scores: dict[str, float] = {}
    failures: list[dict[str, str]] = []
    for name in GATE:
        passed = 0
        for sample in samples:
            score = (sample.scores or {}).get(name)
            if score is not None and score.value == "C":
                passed += 1
                continue
            why = (
                score.explanation if score is not None else str(sample.error.message if sample.error else "not scored")
            )
            failures.append({"id": str(sample.id), "scorer": name, "why": why or ""})
        scores[name] = round(passed / len(samples), 4) if samples else 0.0
    gate = {name: {"min": minimum, "actual": scores[name]} for name, minimum in GATE.items()}
    passed_gate = bool(samples) and all(scores[name] >= minimum for name, minimum in GATE.items())
    return {
        "task": "market_questions",
        "status": log.status,
        "samples": len(samples),
        "scores": gate,
        "failures": failures,
        "passed": passed_gate,
    }


def _as_text(report: dict[str, Any]) -> str:
    lines = [f"{report['task']}: {report['samples']} samples, {'passed' if report['passed'] else 'FAILED'}"]
    lines += [f"  {name}: {score['actual']:.3f} (gate {score['min']})" for name, score in report["scores"].items()]
    lines += [f"  - {failure['id']} {failure['scorer']}: {failure['why']}" for failure in report["failures"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
