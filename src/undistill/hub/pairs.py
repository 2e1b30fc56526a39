"""A pairs data set on the Hugging Face hub: its shards as they are, and a card for its page."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CommitOperationAdd, DatasetCardData, HfApi
from huggingface_hub.errors import HFValidationError

from undistill.base.errors import Failure, UsageError, first_line
from undistill.dataset.shard import DESCRIPTION, Pairs, shard_path

_SHOWN = 5
_PLACES = ("model", "rest", "gguf", "lora", "head")
"""Keys of a pair spec that name a folder, a file or an id of the hub."""
_ON_HUB = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*(?:/[\w./-]+\.gguf)?)?")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def pairs_card(folder: Path) -> str:
    """The card of a finished data set: counts, prompts, attributes and the pair spec, the hub's metadata first.

    Raises:
        UsageError: no data set, or one whose shards are not all there.
    """
    data = Pairs(folder)
    description = data.description
    spec = public(description.pair)
    sides = [spec.get(side, {}) for side in ("student", "teacher")]
    models = [str(side.get("model", "?")) for side in sides]
    unpaired = sides[1].get("start") == "text"
    metadata = DatasetCardData(
        license="other",
        task_categories=["image-to-image"],
        size_categories=[next((name for most, name in _SIZES if len(data) < most), "1M<n<10M")],
        tags=["undistill", "portraits", "synthetic"],
        pretty_name=f"{description.pair.get('name', 'pairs')}: student and teacher portraits",
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "shard-*.parquet"}]}],
    )
    prompts = "\n".join(f"- {prompt}" for prompt in _prompts(data))
    kind = (
        "Both images of a row show what its prompt says, but not the same person: **unpaired** by design."
        if unpaired
        else "The teacher began with the student's image: both of a row show the same person."
    )
    return f"""---
{metadata.to_yaml()}
---

# {metadata.pretty_name}

{len(data)} portraits of {description.size} px by `{models[0]}` (student), and by `{models[1]}` (teacher), made by
[undistill](https://arxiv.org/abs/2505.02255) in {description.shards} shards. {kind}

    undistill train RECIPE --data THIS_FOLDER -o run

## Rows

`id`, `prompt`, `name`, `seed`, `student` and `teacher` (PNG). The people are synthetic; names were sampled or drawn. No
attribute of a face is stored: `undistill diversity` measures perceived ones. The licences of both models hold for their
images.

The first prompts:

{prompts}

SHA-256 of `prompts.jsonl`: `{description.prompts}`.

## Pair spec

Its hash: `{description.spec}`.

```yaml
{yaml.safe_dump(spec, sort_keys=False)}```
"""


def push_pairs(folder: Path, repository: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a finished data set in one commit: shards, dataset.json (without this machine's folders),
    prompts.jsonl and a card. Returns its address.

    Args:
        folder: the data set.
        repository: its hub id, "owner/name"; it is made if there is none.
        private: for a new one.
        token: None: that of `hf auth login`.

    Raises:
        UsageError: the data set is not finished, or the id is none.
        Failure: the hub can't be reached, or refuses.
    """
    data = Pairs(folder)
    paths = [path for path in (folder / "prompts.jsonl",) if path.exists()]
    paths += [shard_path(folder, number) for number in range(data.description.shards)]
    files = [
        CommitOperationAdd("README.md", pairs_card(folder).encode()),
        CommitOperationAdd(DESCRIPTION, _public_description(folder / DESCRIPTION)),
    ]
    files += [CommitOperationAdd(path.name, path) for path in paths]
    api = HfApi(token=token)
    try:
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        api.create_commit(repository, files, repo_type="dataset", commit_message=f"{len(data)} pairs")
    except HFValidationError as error:
        raise UsageError(f"{repository!r} is no id of the hub: write owner/name") from error
    except Exception as error:  # what the hub's client raises is that of its HTTP library, which has changed
        raise Failure(f"{repository} can't be written on the Hugging Face hub: {first_line(error)}") from error
    return f"{api.endpoint}/datasets/{repository}"


def public(spec: dict[str, Any]) -> dict[str, Any]:
    """A pair spec without this machine's folders: of a path, its last part stays; ids of the hub stay whole."""
    made = dict(spec)
    for key, value in spec.items():
        if isinstance(value, dict):
            made[key] = public(value)
        elif key in _PLACES and isinstance(value, str) and (Path(value).exists() or not _ON_HUB.fullmatch(value)):
            made[key] = Path(value).name
    return made


def _public_description(file: Path) -> bytes:
    """The file as it is, unless it names folders."""
    data = file.read_bytes()
    told = json.loads(data)
    pair = public(told["pair"])
    if pair == told["pair"]:
        return data
    return (json.dumps({**told, "pair": pair}, indent=1, ensure_ascii=False) + "\n").encode()


def _prompts(data: Pairs) -> Iterator[str]:
    for number in range(min(_SHOWN, len(data))):
        yield data[number].prompt
