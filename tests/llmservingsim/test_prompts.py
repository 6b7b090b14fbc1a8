"""``gpusim published``: which prompt each request had, by ``workload.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.llmservingsim import folder as made
from tests.llmservingsim.folder import LENGTHS, compare, folder_with, lone_requests, notes_of

Edit = Callable[[dict[str, Any]], None]


def prompts(folder: Path, order: list[int], edit: Edit | None = None) -> None:
    """Write a ``workload.jsonl`` with the prompts of `LENGTHS` in an order."""
    lines = []
    for number in order:
        length, output = LENGTHS[number]
        line: dict[str, Any] = {"input_toks": length, "output_toks": output}
        line["arrival_time_ns"] = number * 10**10
        line["input_tok_ids"] = [(7 * number + i) % made.VOCABULARY for i in range(length)]
        if edit is not None:
            edit(line)
        lines.append(json.dumps(line))
    (folder / "workload.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda line: line.update(output_tok_ids=[1, 2, 3]), ""),
        (lambda line: line.update(output_toks=0), ""),
        (lambda line: line.pop("arrival_time_ns"), ""),
        (
            lambda line: line.update(input_tok_ids=[10**6 + t for t in line["input_tok_ids"]]),
            "exceed the vocabulary",
        ),
    ],
)
def test_only_the_prompts_of_a_workload_matter(tmp_path: Path, edit: Edit, words: str) -> None:
    folder = folder_with(tmp_path)
    prompts(folder, [0, 1, 2, 3], edit)
    run = compare(folder, tmp_path)
    assert run["settings"]["shared_prompts"]
    assert words in notes_of(run)


def test_lines_that_cannot_be_read_share_nothing(tmp_path: Path) -> None:
    requests = [made.request(i, 500, 3, [1e5] * 3) for i in range(12)]
    folder = folder_with(tmp_path, requests=requests)
    line = {"input_toks": 500, "output_toks": 3, "input_tok_ids": list(range(500))}
    lines = [json.dumps(line)] * 12
    lines[4] = lines[4][:100]
    (folder / "workload.jsonl").write_text("\n".join(lines))
    run = compare(folder, tmp_path)
    assert run["settings"]["shared_prompts"]
    assert "1 of 12 lines cannot be read" in notes_of(run)


def test_dependent_requests_are_no_source_of_prompts(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    (folder / "workload.jsonl").write_text(json.dumps({"sub_requests": []}) + "\n")
    run = compare(folder, tmp_path)
    assert not run["settings"]["shared_prompts"]
    assert "1 sessions of dependent requests" in notes_of(run)


@pytest.mark.parametrize(
    ("numbered", "words"), [(True, "the number in request_id"), (False, "prompt length")]
)
def test_requests_in_order_of_completion_find_their_prompts(
    tmp_path: Path, numbered: bool, words: str
) -> None:
    order = [3, 1, 0, 2]
    requests = [lone_requests()[number] for number in order]
    if numbered:
        for number, request in zip(order, requests, strict=True):
            request["request_id"] = f"bench-{number}"
    else:
        for request in requests:
            request["request_id"] = "bench"
    folder = folder_with(tmp_path, requests=requests)
    prompts(folder, [0, 1, 2, 3])
    run = compare(folder, tmp_path)
    assert run["settings"]["shared_prompts"]
    assert words in notes_of(run)
    written = Path(run["settings"]["artifacts"]) / "workload" / "prompts.jsonl"
    firsts = [json.loads(line)["token_ids"][0] for line in written.read_text().splitlines()]
    assert firsts == [0, 7, 14, 21]
