"""GenAI-Perf's ``profile_export.json``: Perf Analyzer's experiments with the times of responses.

Read by the form of GenAI-Perf's own tests (0.0.1 to 0.0.16): times are nanoseconds of the client,
one for each response that came. How long prompts and answers are it counts afterwards, by a
tokenizer that the file does not name: it is given as ``--tokenizer`` where no response tells usage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.documents import JsonObject, LeftOut, first_document, read_document
from pytest_gpusim.errors import GpusimError, UsageError
from pytest_gpusim.json_documents import parse_json
from pytest_gpusim.runs.importers.base import ImportedRequest, due_at_once, write_imported
from pytest_gpusim.runs.importers.files import (
    choose,
    only_file,
    recognised_by,
    require_counted,
    split_index,
)
from pytest_gpusim.runs.importers.options import RunOptions
from pytest_gpusim.runs.importers.shared_prompts import SentPrompt
from pytest_gpusim.workload.load import Load
from pytest_gpusim.workload.tokenizer import LocalTokenizer, load_tokenizer

KIND = "genai-perf"
FILE = "profile_export.json"


def recognises(path: Path) -> bool:
    """Whether this looks like GenAI-Perf's export, or the directory that holds it."""
    return _has_experiments(_file(split_index(path)[0]))


def _has_experiments(path: Path) -> bool:
    document = first_document(path)
    return isinstance(document, dict) and isinstance(document.get("experiments"), list)


def runs_in(path: Path) -> int:
    """How many experiments the file holds."""
    return len(JsonObject(path, "", read_document(_file(path))).array("experiments"))


@recognised_by(recognises, runs_in=runs_in)
def import_run(files: Sequence[Path], out: Path, options: Mapping[str, Any] | None = None) -> None:
    """Write the run of one experiment; ``FILE#1`` names the second of several.

    Raises:
        InputError: The file is not one, or a request contradicts itself.
        UsageError: Nothing counts the tokens.
    """
    chosen = RunOptions.of(options)
    given, index = split_index(only_file(files, KIND))
    path = _file(given)
    document = JsonObject(path, "", read_document(path))
    entry = choose(path, "experiments", document.array("experiments"), index)
    experiment = JsonObject(path, f"experiments[{index or 0}]", entry)
    mode = experiment.record_or_empty("experiment")
    load = Load()
    if mode.fields.get("mode") == "concurrency" and "value" in mode:
        load = Load(mode.integer("value", least=1))
    tokenizer = load_tokenizer(chosen.tokenizer) if chosen.tokenizer else None
    if len(document.array("experiments")) == 1 and not chosen.skip_bad:
        stem = path.name.removesuffix(".gz").removesuffix(".json")
        summary = first_document(path.with_name(f"{stem}_genai_perf.json"))
        count = summary.get("request_count") if isinstance(summary, dict) else None
        counted = count.get("avg") if isinstance(count, dict) else None
        require_counted(path, "answered", len(experiment.array("requests")), counted)
    requests, bad = [], LeftOut(chosen.skip_bad)
    for number, record in enumerate(experiment.array("requests")):
        where = experiment.place(f"requests[{number}]")
        with bad.where_bad():
            requests.append(_request(JsonObject(path, where, record), tokenizer))
    if not load.is_open:
        due_at_once(requests)
    write_imported(
        out,
        KIND,
        path,
        requests,
        clock="client",
        not_recovered=["when a request was due", "engine settings", "hardware", "cached tokens"],
        notes=["arrivals are the times of sending"],
        tool={"experiment": mode.fields, "version": document.fields.get("version")},
        load=load,
        left_out=bad,
        options=chosen,
    )


def _file(path: Path) -> Path:
    """The export in a directory: under its usual name, or the only one under another."""
    if not path.is_dir() or (path / FILE).exists():
        return path / FILE if path.is_dir() else path
    found = [file for file in sorted(path.glob("*.json")) if _has_experiments(file)]
    return found[0] if len(found) == 1 else path / FILE


def _request(record: JsonObject, tokenizer: LocalTokenizer | None) -> ImportedRequest:
    sent = record.integer("timestamp")
    times = [int(time) for time in record.integers("response_timestamps")]
    inputs = record.record_or_empty("request_inputs")
    body = _json(record, inputs.fields.get("payload")) or dict(inputs.fields)
    outputs = record.array("response_outputs", len(times), "response_timestamps")
    texts = [_text(record, output) for output in outputs]
    prompt = SentPrompt.of_body(body, "".join(texts))
    if prompt is None and isinstance(inputs.fields.get("text_input"), str):
        prompt = SentPrompt(text=inputs.fields["text_input"])
    model = body.get("model") if isinstance(body, Mapping) else None
    request = ImportedRequest(
        record.where,
        sent,
        0,
        sent_ns=sent,
        model=model if isinstance(model, str) else None,
        prompt=prompt,
    )
    if not times:
        request.error_type, request.error_msg = "no_output", "no response came"
        return request
    # Servers may tell the usage so far with every chunk; the last one's is that of all.
    usages = (_usage(record, output) for output in reversed(outputs))
    usage = next((found for found in usages if found), None)
    # GenAI-Perf leaves out what holds no text: a chat's first chunk, the last one's usage.
    answered = [time for time, text in zip(times, texts, strict=True) if text]
    if usage is not None:
        request.num_prefill_tokens = usage.integer("prompt_tokens")
        produced = usage.integer("completion_tokens")
    elif tokenizer is not None:
        if prompt is not None and prompt.text is not None:
            request.num_prefill_tokens = len(tokenizer.encode(prompt.text))
        produced = len(tokenizer.encode("".join(texts), special=False))
    else:
        raise UsageError(
            f"{record.path}: GenAI-Perf keeps no token counts: give --tokenizer DIR, the one that "
            "it was run with"
        )
    if not answered or not produced:
        request.error_type, request.error_msg = "no_output", "no response holds text"
        return request
    request.num_decode_tokens_actual = produced
    request.first_token_ns, request.completion_ns = answered[0], answered[-1]
    request.token_times_ns = answered if len(answered) == produced else None
    return request


def _json(record: JsonObject, text: Any) -> Any:
    if not isinstance(text, str):
        return text if isinstance(text, dict) else None
    try:
        return parse_json(text, record.path, record.where)
    except GpusimError:
        return None


def _chunks(record: JsonObject, output: Any) -> list[Any]:
    """The documents of one response: server-sent events, or one JSON text."""
    text = output.get("response") if isinstance(output, dict) else None
    if not isinstance(text, str):
        return []
    lines = [line.strip().removeprefix("data:").strip() for line in text.splitlines()]
    return [document for line in lines if line and (document := _json(record, line))]


def _text(record: JsonObject, output: Any) -> str:
    if isinstance(output, dict) and isinstance(output.get("text_output"), str):
        return str(output["text_output"])
    found = []
    for chunk in _chunks(record, output):
        choices = chunk.get("choices") if isinstance(chunk, dict) else None
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, dict):
                holder = choice.get("delta") or choice.get("message") or choice
                holder = holder if isinstance(holder, dict) else {}
                # Tokens of reasoning are tokens as others are; some servers say them twice.
                said = (
                    holder.get("reasoning_content") or holder.get("reasoning"),
                    holder.get("content") or holder.get("text"),
                )
                found += [text for text in said if isinstance(text, str)]
    return "".join(found)


def _usage(record: JsonObject, output: Any) -> JsonObject | None:
    for chunk in _chunks(record, output):
        usage = chunk.get("usage") if isinstance(chunk, dict) else None
        if isinstance(usage, dict):
            found = JsonObject(record.path, f"{record.where}, usage", usage)
            if "prompt_tokens" in found and "completion_tokens" in found:
                return found
    return None
