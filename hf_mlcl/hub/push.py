"""Publishing a folder, or scores, on the Hub: one commit, after everything is uploaded."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    get_token,
    metadata_update,
)
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.repocard_data import eval_results_to_model_index

from .card import eval_results
from .files import is_weights, last_name, published_files
from .results import RunResults

logger = logging.getLogger(__name__)
_UNREACHABLE = "; run it again, what has arrived is not sent twice"


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    commit_message: str = "Upload model",
    token: str | None = None,
    places: Sequence[str] = ("",),
) -> CommitInfo:
    """Publishes a saved model: makes the repository where there is none, uploads, and commits once.

    Nothing of the repository changes before all files have arrived. What is there already is not sent again, and
    weights of an earlier model that the new one does not have are deleted in the same commit. See `published_files`
    for what is sent; where neither the folder nor the repository has a card, one is written.

    Args:
        folder: Where the model, its processor and its card are saved.
        repo_id: "user/name", or "name" for the user's own.
        private: Whether a new repository is private; True also refuses to publish in one that is not.
        revision: Branch to commit to, made where there is none; by default "main".
        create_pr: Opens a pull request against "main" instead of committing to it.
        tag: Name that the commit gets, such as "v1.0"; it must be new.
        commit_message: First line of the commit's message.
        token: Access token; by default `HF_TOKEN` or the stored login.
        places: Folders of the repository, "" its root.

    Returns:
        The commit: `oid`, `commit_url`, `pr_url`.

    Raises:
        ValueError: For a folder that `published_files` refuses, arguments that do not go together, a tag that exists,
            or a token that is missing or may not write there.
        ConnectionError: Where the Hub could not be reached, or no longer.
    """
    branch = None if revision == constants.DEFAULT_REVISION else revision
    for name, given in (("tag", tag), ("revision", branch)):
        if create_pr and given is not None:
            raise ValueError(f"{name} cannot be combined with create_pr, got {given!r}")
    files = published_files(folder, token or get_token())
    _warn_of_local_encoder(Path(folder))
    with one_line_errors(repo_id, token):
        api = HfApi(library_name="hf_mlcl", token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if private and not api.model_info(repo_id).private:
            raise ValueError(f"private: {repo_id} is public; make it private on the Hub, or choose another name")
        if tag is not None and tag in [known.name for known in api.list_repo_refs(repo_id).tags]:
            raise ValueError(f"tag: {repo_id} has {tag!r} already")
        if branch is not None:
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        there = api.list_repo_files(repo_id, revision=revision)
        files |= _card(files, folder, repo_id, there)
        placed = [
            [
                CommitOperationAdd(
                    f"{place}/{name}" if place else name, str(content) if isinstance(content, Path) else content
                )
                for name, content in files.items()
            ]
            for place in places
        ]
        if len(placed) > 1:  # the client would send what is to lie in two places twice
            api.preupload_lfs_files(repo_id, placed[0], revision=revision, free_memory=False)
        additions = [addition for one_place in placed for addition in one_place]
        sent = {addition.path_in_repo for addition in additions}
        old = [CommitOperationDelete(name) for name in there if is_weights(name) and name not in sent]
        commit = api.create_commit(
            repo_id,
            operations=[*additions, *old],
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
        )
        if tag is not None:
            api.create_tag(repo_id, tag=tag, revision=commit.oid)
    return commit


def _warn_of_local_encoder(folder: Path) -> None:
    """Who loads an adapter by its id alone needs the encoder on the Hub."""
    settings = folder / "adapter_config.json"
    base = json.loads(settings.read_text("utf-8")).get("base_model_name_or_path") if settings.is_file() else None
    if base and last_name(base) != base:
        logger.warning(
            "the adapter's encoder is a folder, %s, and is not published: elsewhere it loads with "
            "from_pretrained(..., encoder=FOLDER) only; after merge_adapter() the whole model is published",
            base,
        )


def _card(
    files: dict[str, Path | bytes], folder: str | Path, repo_id: str, there: Sequence[str]
) -> dict[str, Path | bytes]:
    """The folder's card with the repository in its examples; where there is none yet, one of what its files say."""
    card = files.get("README.md")
    if isinstance(card, Path):
        text = card.read_text(encoding="utf-8").replace('from_pretrained("."', f'from_pretrained("{repo_id}"')
    elif "config.json" in files and "README.md" not in there:
        text = str(RunResults.read(folder).card_of(folder, repo_id))
    else:
        return {}
    return {"README.md": text.encode()}


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
        raise ValueError(f"model: {repo_id!r} is no Hub id of a published model, such as user/name, to push to")
    with one_line_errors(repo_id, token):
        if not (token or get_token()):
            raise LocalTokenNotFoundError
        if not HfApi(library_name="hf_mlcl", token=token).file_exists(repo_id, "README.md"):
            raise ValueError(f"model: {repo_id} has no card; publish it with `hf-mlcl push`")


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

    A score of the same metric, dataset and split is replaced, others stay.

    Args:
        repo_id: "user/name" of the model.
        metrics: What `hf-mlcl evaluate` returns; those of a model card are taken.
        task: "text" or "vision".
        dataset: Hub id or folder of the dataset; of a folder its name.
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
        raise ValueError(f"metrics: none is a score of a model card such as macro_f1, got {sorted(metrics)}")
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


@contextmanager
def one_line_errors(repo_id: str, token: str | None = None) -> Iterator[None]:
    """Turns what the Hub's client raises inside the block into one line that says what to do."""
    login = "log in with `hf auth login` or set HF_TOKEN"
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise ConnectionError(f"{repo_id}: the Hub is out of reach with HF_HUB_OFFLINE=1") from error
    except LocalTokenNotFoundError as error:
        raise ValueError(f"{repo_id}: an access token is needed, there is none; {login}") from error
    except (HFValidationError, RevisionNotFoundError, BadRequestError) as error:
        raise ValueError(f"repo_id {repo_id!r}: {_line(error)}") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status not in (401, 403) and not isinstance(error, RepositoryNotFoundError):
            raise ConnectionError(f"{repo_id}: the Hub answers {_line(error)}{_UNREACHABLE}") from error
        problem = "the access token may not write there" if token or get_token() else "an access token is needed"
        raise ValueError(f"{repo_id}: {problem}; {login}") from error
    except Exception as error:
        # The client's transport has a family of errors of its own; uploads wrap them into a RuntimeError.
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ is not None else error
        if not type(cause).__module__.startswith(("httpx", "httpcore", "huggingface_hub")):
            raise
        reason = f"{type(cause).__name__} ({_line(cause)})"
        raise ConnectionError(f"{repo_id}: the connection broke off, {reason}{_UNREACHABLE}") from error


def _line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
