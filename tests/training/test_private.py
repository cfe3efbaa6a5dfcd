"""Which private methods of the Trainer of transformers are overridden, to be looked at with each new release of it."""

from transformers import Trainer

from hf_mlcl import MLCLTrainer
from hf_mlcl.training.checkpointing import CheckpointingTrainer

OVERRIDDEN = """
_determine_best_metric _evaluate _finalize_training _get_dataloader _get_output_dir _get_train_sampler _hp_search_setup
_init_training_state _load_best_model _load_from_checkpoint _load_optimizer_and_scheduler _load_rng_state
_prepare_for_training _push_from_checkpoint _remove_unused_columns _save _save_checkpoint _save_rng_state
""".split()


def overridden(cls):
    return {
        name for name in vars(cls) if name.startswith("_") and not name.startswith("__") and hasattr(Trainer, name)
    }


def test_private_methods_are_overridden_in_one_class():
    assert sorted(overridden(CheckpointingTrainer)) == OVERRIDDEN
    ours = MLCLTrainer.__mro__[: MLCLTrainer.__mro__.index(Trainer)]
    assert len(ours) <= 3
    for cls in ours:
        assert cls is CheckpointingTrainer or overridden(cls) <= {"_tag_names"}, cls


def test_the_constructor_has_the_order_of_transformers():
    import inspect

    theirs = list(inspect.signature(Trainer.__init__).parameters)
    ours = list(inspect.signature(MLCLTrainer.__init__).parameters)
    assert ours[: len(theirs)] == theirs
