"""Measured scores into the metadata of a published model's card. Imports card, push, huggingface_hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, get_token, metadata_update
from huggingface_hub.errors import LocalTokenNotFoundError
from huggingface_hub.repocard_data import eval_results_to_model_index

from .card import eval_results
from .files import last_name
from .push import one_line_errors


def check_card(repo_id: str, *, token: str | None = None) -> None:
    """Raises unless there is a published model with a card and an access token: to be called before a long evaluation.

    Args:
        repo_id: "user/name".
        token: Access token; by default `HF_TOKEN` or the stored login.

    Raises:
        ValueError: For a folder, a repository or card that is not there, or a missing token.
        ConnectionError: Where the Hub could not be reached.
    """
    if Path(repo_id).exists() or repo_id.count("/") != 1:
        raise ValueError(f"model: expected the Hub id of a published model, user/name, to push to, got {repo_id!r}")
    with one_line_errors(repo_id, token):
        if not (token or get_token()):
            raise LocalTokenNotFoundError
        if not HfApi(library_name="hf_mlcl", token=token).file_exists(repo_id, "README.md"):
            raise ValueError(f"model: expected a published model with a card, got {repo_id} without; `hf-mlcl push`")


def push_results(
    repo_id: str,
    metrics: dict[str, float],
    *,
    task: str,
    dataset: str,
    split: str,
    create_pr: bool = False,
    token: str | None = None,
) -> str:
    """Writes scores into the metadata of a model's card (`model-index`), in one commit; the text stays as it is.

    A score of the same metric, data set and split is replaced, others stay.

    Args:
        repo_id: "user/name" of the model.
        metrics: What `hf-mlcl evaluate` returns; those of a model card are taken.
        task: "text" or "vision".
        dataset: Hub id or folder of the data set; of a folder its name.
        split: Split that was measured.
        create_pr: Opens a pull request instead of committing, as for a model of others.
        token: Access token; by default `HF_TOKEN` or the stored login.

    Returns:
        Address of the commit or of the pull request.

    Raises:
        ValueError, ConnectionError: As `check_card`, or where the token may not write there.
    """
    check_card(repo_id, token=token)
    results = eval_results({split: metrics}, last_name(dataset), task)
    if not results:
        raise ValueError(f"metrics: expected scores of a model card such as macro_f1, got {sorted(metrics)}")
    with one_line_errors(repo_id, token):
        commit = metadata_update(
            repo_id,
            {"model-index": eval_results_to_model_index(repo_id.split("/")[1], results)},
            overwrite=True,
            token=token,
            create_pr=create_pr,
            commit_message=f"Scores on {last_name(dataset)}, {split}",
        )
    return getattr(commit, "pr_url", None) or str(commit)
