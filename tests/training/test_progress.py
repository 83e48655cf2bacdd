"""The line that a person watches."""

from vmr.training.progress import Progress


def test_speed_and_time_left_come_once_they_are_known() -> None:
    progress = Progress(1, 700_000, 32_768)
    known = {"train/loss": 1.5, "train/examples_per_second": 32_768.0}
    first = progress.line(1, known | {"train/examples_per_second": 0.0}, "v2m/R@10")
    assert first == "step 1/700,000  loss 1.5000"
    line = progress.line(699_940, known | {"val/v2m/R@10": 12.34}, "v2m/R@10")
    assert line == "step 699,940/700,000  loss 1.5000  32,768 examples/s  0:01:00 left  " + (
        "val v2m/R@10 12.3"
    )
