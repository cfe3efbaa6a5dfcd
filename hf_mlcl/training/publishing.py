"""`PublishingTrainer`: a Trainer that publishes models with their cards and scores, and nothing else of its folder.

Imports transformers, huggingface_hub and `hf_mlcl.hub`.
"""

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from transformers.trainer_utils import HubStrategy, SaveStrategy
from transformers.utils import logging
from transformers.utils.hub import PushInProgress, hf_api

from hf_mlcl.hub import RunResults, published_files, push_folder
from hf_mlcl.hub.files import write_files
from hf_mlcl.hub.push import one_line_errors
from hf_mlcl.hub.results import describe_run, scores_only

from .checkpointing import CheckpointingTrainer

logger = logging.get_logger(__name__)

PUSHING = "tmp-pushing"  # where the files of a checkpoint wait until they are uploaded
SPLITS = ("validation", "test")


class PublishingTrainer(CheckpointingTrainer):
    """Adds to the Trainer that what it publishes is a model others can load and trust: see `push_to_hub`.

    The stock Trainer uploads all of `output_dir` but checkpoints, with its arguments as a pickle in which the access
    token stands, and with checkpoints the pickles of optimizer and random state. Here nothing but `published_files`
    leaves the machine.
    """

    def held_out_scores(self, dataset: Any) -> Any:
        """Scores of examples by classifiers that were not fitted on them, where the model's was; None otherwise."""
        raise NotImplementedError

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._measured: dict[str, dict[str, float]] = {}
        self._report: Any = None  # of the classifier that was fitted last
        super().__init__(*args, **kwargs)

    # --- what the card tells ---

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the Trainer's; the card reports what was measured last on the validation and on the test split.

        The latter is a dataset whose `split` is "test", or one measured with `metric_key_prefix="test"`.
        """
        metrics = super().evaluate(eval_dataset, *args, **kwargs)
        # In training the model still changes, and a probe may stand in for its classifier.
        if not self.is_in_train and self.core_model.config.classifier_fitted:
            data = self.eval_dataset if eval_dataset is None else eval_dataset
            seen = self.core_model.config.classifier_refitted and data is self.eval_dataset
            if seen and self.held_out_scores(data) is None:
                return metrics  # of examples that the classifier was fitted on, and no scores for a card
            prefix = kwargs.get("metric_key_prefix", args[1] if len(args) > 1 else "eval")
            split = prefix if prefix in SPLITS else str(getattr(data, "split", None))
            split = "validation" if data is self.eval_dataset else split
            if split in SPLITS and not isinstance(data, (dict, str)):
                self._measured[split] = scores_only(metrics, prefix)
        return metrics

    def create_model_card(  # type: ignore[override]  # what the stock one asks of its caller, this one knows
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        dataset: str | None = None,
        metrics: dict[str, dict[str, float]] | None = None,
    ) -> None:
        """Writes `README.md`, `run.json` and `metrics.json` into `output_dir`; a card of your own stays as it is.

        Args:
            language: Of the texts, such as "en".
            license: Of the model, such as "apache-2.0".
            tags: Further tags of the model.
            dataset: Hub id or name of the dataset, without which the Hub shows no scores beside the model.
            metrics: Name of a split, "validation" or "test", to what `evaluate` returned. By default what was last
                measured on `eval_dataset` and on a dataset whose `split` is "test", since the classifier was fitted.
        """
        if not self.is_world_process_zero():
            return
        folder, config = Path(str(self.args.output_dir)), self.core_model.config
        given = {split: scores_only(values, "eval") for split, values in (metrics or {}).items()}
        for split in given:
            if split not in SPLITS:
                raise ValueError(f"metrics: the splits are {' and '.join(SPLITS)}, got {split!r}")
        sources = (getattr(config.encoder_config, "name_or_path", None), config.name_or_path)
        sizes: dict[str, Any] = {"train": self.train_dataset, "validation": self.eval_dataset}
        times = [entry["train_runtime"] for entry in self.state.log_history if "train_runtime" in entry]
        run = describe_run(
            self.args,
            self.core_model,
            job={"task": config.task, "encoder": next(filter(None, sources), None), "dataset": dataset},
            examples={name: len(data) for name, data in sizes.items() if hasattr(data, "__len__")},
            report=self._report,
            seconds=sum(times) if times else None,
        )
        wanted = {"language": language, "license": license, "tags": [tags] if isinstance(tags, str) else tags}
        run["card"] = {name: value for name, value in wanted.items() if value}
        measured = self._measured | given
        metrics = {split: measured[split] for split in SPLITS if split in measured}
        RunResults(run, metrics).write(folder)

    # --- publishing ---

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        with one_line_errors(str(self.args.hub_model_id or Path(str(self.args.output_dir)).absolute().name), token):
            super().init_hf_repo(token, private)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        *,
        create_pr: bool = False,
        tag: str | None = None,
        **card: Any,
    ) -> Any:
        """Saves the model, writes its card, and publishes both in one commit; see `hf_mlcl.hub.push_folder`.

        The access token is that of `hf auth login`, `HF_TOKEN` or `hub_token`. Call it in all processes.

        Args:
            commit_message: First line of the commit's message.
            blocking: False uploads in the background and returns a `Future`.
            token: In place of `hub_token`.
            revision: Branch; by default `hub_revision`, or else "main".
            private: In place of `hub_private_repo`.
            create_pr: Opens a pull request instead of committing.
            tag: Name that the commit gets, such as "v1.0".
            **card: See `create_model_card`.

        Returns:
            The commit on the first process, None on the others.
        """
        self.save_model(_internal_call=True)
        self.create_model_card(**card)
        return self.publish(commit_message, blocking, token, revision, private, create_pr=create_pr, tag=tag)

    def publish(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **options: Any,
    ) -> Any:
        """Publishes what `output_dir` holds of a model, as `push_to_hub` does, which saves it and writes its card."""
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if not self.is_world_process_zero():
            return None
        token = self.args.hub_token if token is None else token
        if self.hub_model_id is None:
            self.init_hf_repo(token, private)
        self._finish_current_push()
        push = push_folder if blocking else partial(hf_api().run_as_future, push_folder)
        return push(
            str(self.args.output_dir),
            str(self.hub_model_id),
            private=self.args.hub_private_repo if private is None else private,
            revision=self.args.hub_revision if revision is None else revision,
            commit_message=commit_message or "End of training",
            token=token,
            **options,
        )

    def push_checkpoint(self, checkpoint_folder: str) -> None:
        """Publishes the model of a checkpoint in the background, in one commit, as `hub_strategy` says.

        Every strategy but "end" puts it into the root of the repository; "checkpoint" also into `last-checkpoint`,
        "all_checkpoints" into a folder of its own. Optimizer and random state are pickles and stay where they are.
        """
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        current: Any = self.push_in_progress
        busy = current is not None and not current.is_done()
        if busy and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        name = Path(checkpoint_folder).name
        more = {HubStrategy.CHECKPOINT: ["last-checkpoint"], HubStrategy.ALL_CHECKPOINTS: [name]}
        steps = self.args.save_strategy == SaveStrategy.STEPS
        progress = f"step {self.state.global_step}" if steps else f"epoch {int(self.state.epoch or 0)}"
        waiting = Path(str(self.args.output_dir)) / PUSHING / name  # rotation may remove the checkpoint
        shutil.rmtree(waiting, ignore_errors=True)
        write_files(published_files(checkpoint_folder), waiting, _link)
        job = hf_api().run_as_future(
            _push_and_remove,
            waiting,
            str(self.hub_model_id),
            private=self.args.hub_private_repo,
            revision=self.args.hub_revision,
            commit_message=f"Training in progress, {progress}",
            token=self.args.hub_token,
            places=["", *more.get(HubStrategy(self.args.hub_strategy), [])],
        )
        if busy:
            current.jobs.append(job)
        else:
            self.push_in_progress = PushInProgress([job])  # type: ignore[assignment, arg-type]  # as the Trainer does


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def _push_and_remove(folder: Path, repo_id: str, **options: Any) -> CommitInfo | None:
    """In the background; a training must not end because the Hub is out of reach."""
    try:
        return push_folder(folder, repo_id, **options)
    except (ValueError, OSError) as error:
        logger.warning("the checkpoint was not published: %s", error)
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.parent.is_dir() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()
