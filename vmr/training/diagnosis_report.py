"""A diagnosis as a screen of text: what was measured, what it means, what to do with it."""

from collections.abc import Sequence

from vmr import tables
from vmr.evaluation.diagnosis.geometry import CROWDED, FEW_DIRECTIONS

_WAYS = ("v2m", "m2v")
_HEADINGS = ("video → music", "music → video")
# Beyond this skew the lists of a retrieval are crowded by a few items; ours.
_HUBS = 1.0
_WIDTHS = (46, 15)


def render(found: dict) -> str:
    """The result of a diagnosis -> text for a terminal, at most 100 columns wide."""
    title = (
        f"Diagnosis, {found['split']}, step {found['step']:,}: {found['videos']:,} videos, "
        f"{found['tracks']:,} unique tracks"
    )
    sections = (
        _geometry(found["geometry"]),
        _hubness(found["hubness"]),
        _false_negatives(found["false_negatives"], found["rule"]),
        _batch(found["batch"]),
        _examples(found["false_negatives"]["examples"]),
    )
    return "\n\n".join([title, *("\n".join(section) for section in sections if section)])


def _geometry(found: dict) -> list[str]:
    sides = [found["video"], found["music"]]
    lines = [
        _line("GEOMETRY of the embedding", ("video", "music")),
        _line("uniformity (0: one point, about −4: even)", _each(sides, "uniformity", "{:.2f}")),
        _line("effective rank", _each(sides, "effective_rank", "{:.0f}")),
        _line("  of at most", _each(sides, "most_directions", "{:.0f}")),
        _line("alignment: squared distance of pairs", (f"{found['alignment']:.2f}", "")),
        _line("modality gap: distance of the centroids", (f"{found['modality_gap']:.2f}", "")),
    ]
    wrong = [
        f"! {name} has collapsed: {what}. Its neighbours mean little."
        for name in ("video", "music")
        for what in found[name]["collapse"]
    ]
    sound = (
        f"No collapse: uniformity is at most {CROWDED:g}, effective rank at least "
        f"{FEW_DIRECTIONS:.0%} of what it could be."
    )
    return [*lines, *(wrong or [f"→ {sound}"])]


def _hubness(found: dict) -> list[str]:
    ways = [found[way] for way in _WAYS]
    lines = [
        _line(f"HUBS in the lists of the {found['k']} nearest", _HEADINGS),
        _line("skew of occurrences", _each(ways, "skew", "{:.2f}")),
        _line("  of random lists", _each(ways, "skew_by_chance", "{:.2f}")),
        _line("items in no list", _each(ways, "antihubs", "{:.1%}")),
        _line("  of random lists", _each(ways, "antihubs_by_chance", "{:.1%}")),
        _line("lists that hold the largest hub", _each(ways, "largest_hub", "{:.1%}")),
    ]
    hubs = [name for name, way in zip(_HEADINGS, ways, strict=True) if way["skew"] > _HUBS]
    if not hubs:
        return [*lines, f"→ No hubs to speak of: the skew is at most {_HUBS:g}."]
    return [
        *lines,
        f"→ Hubs in {' and '.join(hubs)} (skew above {_HUBS:g}): a few items crowd the lists.",
        "  Scores relative to each item's neighbourhood are a remedy (CSLS, Conneau et al. 2018).",
    ]


def _false_negatives(found: dict, rule: dict) -> list[str]:
    ways = [found[way] for way in _WAYS]
    lines = [
        _line("SUSPECTED FALSE NEGATIVES", _HEADINGS),
        _line("unpaired items that rank above the partner", _each(ways, "above", "{:,}")),
        _line("  suspected: their inputs are alike", _each(ways, "suspected", "{:,}")),
        _line("queries", _each(ways, "queries", "{:,}")),
        _line("  that have a suspect", _each(ways, "queries_with_suspects", "{:,}")),
    ]
    if "truth" in ways[0]:
        truths = [way["truth"] for way in ways]
        lines += [
            _line("truly compatible, of what ranks above", _each(truths, "base_rate", "{:.1%}")),
            _line("  of the suspected (precision)", _each(truths, "precision", "{:.1%}")),
            _line("  times as often (lift)", _each(truths, "lift", "{:.1f}")),
            _line("  found among the suspected (recall)", _each(truths, "recall", "{:.1%}")),
        ]
    thresholds = (f"{rule[side]['threshold']:.2f} ({side})" for side in ("video", "music"))
    counts = (f"{at['suspected']:,} ({at['deviations']:g})" for at in ways[0]["by_deviations"])
    return [
        *lines,
        f"→ Alike: cosine of inputs above {' or '.join(thresholds)}, {rule['deviations']:g} "
        "deviations above the usual.",
        "  Suspects are to be looked at, not proven. Of video → music by --deviations, there are",
        f"  {', '.join(counts)}.",
    ]


def _batch(found: dict) -> list[str]:
    shares = [("suspected", "suspected_share", "suspected_per_anchor", found)]
    if "compatible_at_most" in found:
        label = "compatible at most, by videos of one track"
        shares.append((label, "compatible_at_most", "compatible_at_most_per_anchor", found))
    if "truth" in found:
        label = "truly compatible"
        shares.append((label, "compatible_share", "compatible_per_anchor", found["truth"]))
    chance = found["by_chance"]
    verdict = "More" if found["suspected_share"] > chance else "No more"
    return [
        _line(f"NEGATIVES of a training batch of {found['batch_size']:,}", ("share", "per anchor")),
        *(
            _line(label, (f"{part[share]:.2%}", f"{part[per_anchor]:.2f}"))
            for label, share, per_anchor, part in shares
        ),
        f"→ {verdict} are suspected than the {chance:.2%} that normal similarities would give.",
        "  If many are compatible: config.loss.inter=crossclr leaves some out of the negatives;",
        "  config.positives=label takes items of one label for positives.",
    ]


def _examples(found: Sequence[dict]) -> list[str]:
    """One suspect a line; its deviations are those of the videos and of the tracks."""
    if not found:
        return []
    lines = [["LOOK AT FIRST", "its track", "above it", "video", "music", ""]]
    for one in found:
        by_video, by_music = one["video_deviations"], one["music_deviations"]
        known = {True: "truly compatible", False: "not compatible", None: ""}[one["compatible"]]
        alike = ("–" if by_video is None else f"{by_video:+.1f}", f"{by_music:+.1f}")
        lines.append([f"  {one['video']}", one["partner"], one["track"], *alike, known])
    return tables.text(lines, "l").splitlines()


def _each(parts: Sequence[dict], key: str, form: str) -> list[str]:
    return ["–" if part[key] is None else form.format(part[key]) for part in parts]


def _line(name: str, cells: Sequence[str]) -> str:
    label, width = _WIDTHS
    return (name.ljust(label) + "".join(cell.rjust(width) for cell in cells)).rstrip()
