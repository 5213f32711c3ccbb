"""The one error of training's commands."""


class TrainingError(Exception):
    """A manifest, a checkpoint of ImageNet weights, or a run's score file that is missing or not valid."""
