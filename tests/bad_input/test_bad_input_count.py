"""The bad inputs of this folder are many: a table that shrinks is noticed."""

import test_bad_argument_files as argument_files
import test_bad_command_line as command_line
import test_bad_data_files as data_files
import test_bad_losses as losses
import test_bad_metric_inputs as metric_inputs
import test_bad_models as models
import test_bad_training as training

KINDS = {
    "command line": [command_line.TRAIN_CASES, command_line.COMMAND_CASES, command_line.MISSING],
    "configs": [argument_files.FILE_CASES, argument_files.DESCRIPTION_CASES, models.CONFIG_CASES],
    "data files": [data_files.CASES, data_files.SOURCE_CASES, data_files.IMAGE_CASES],
    "Python API": [
        losses.BUILD_CASES,
        losses.TENSOR_CASES,
        models.ENCODER_CASES,
        models.CALL_CASES,
        training.TRAINER_CASES,
        training.ARGUMENT_CASES,
        training.PREPARATION_CASES,
    ],
    "checkpoints": [
        models.FOLDER_CASES,
        models.ENCODER_FOLDER_CASES,
        models.MODEL_CASES,
        training.RESUME_CASES,
        training.OTHER_MODELS,
    ],
    "metric inputs": [metric_inputs.CASES],
}


def test_there_are_at_least_150_cases_over_all_kinds_of_input():
    counts = {kind: sum(map(len, tables)) for kind, tables in KINDS.items()}
    assert all(count >= 20 for count in counts.values()), counts
    assert sum(counts.values()) >= 150, counts
