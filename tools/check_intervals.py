"""Coverage of the intervals of `experiments.compare`, and its rate of false alarms.

    python -m tools.check_intervals
    python -m tools.check_intervals --designs=3x3 --scatters=0,0.1 --repeats=2000

Two simulated systems whose difference is known are drawn and compared many times, once with a
difference (coverage) and once without (false alarms at p < 0.05). The scatter is the effect of a
seed on all queries, see `tools.simulated_systems`. With one seed a side and scatter above 0 the
coverage falls short: such intervals speak of two runs, and here they are checked for two methods.
"""

from absl import flags

from tools import simulated_systems
from vmr.command import run

_DESIGNS = flags.DEFINE_list(
    "designs", ["1x1", "2x2", "3x3", "5x5", "1x3", "3x5"], "Seeds of the two systems, AxB."
)
_SCATTERS = flags.DEFINE_list(
    "scatters", ["0", "0.03", "0.1", "0.3"], "Of seeds; 0.03 is one point of R@10."
)
_GAIN = flags.DEFINE_float("gain", 0.1, "The difference that intervals should hold, in scores.")
_QUERIES = flags.DEFINE_integer("queries", 600, "Queries.", lower_bound=2)
_TRACKS = flags.DEFINE_integer("tracks", 400, "Tracks that queries draw from.", lower_bound=2)
_REPEATS = flags.DEFINE_integer("repeats", 1000, "Comparisons behind each number.", lower_bound=1)
_SAMPLES = flags.DEFINE_integer("samples", 1000, "Resamples a comparison.", lower_bound=100)


def main(_: list[str]) -> None:
    """Prints a Markdown table of coverage and false alarms, each row when it is computed."""
    lines = simulated_systems.check(
        _DESIGNS.value,
        _SCATTERS.value,
        gain=_GAIN.value,
        queries=_QUERIES.value,
        tracks=_TRACKS.value,
        repeats=_REPEATS.value,
        samples=_SAMPLES.value,
    )
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    run(main)
