"""One or two English sentences on what an image shows, for work with language.

A report says the view, every finding with its grade, side and zone, and sometimes what is not
there. It is written from the same cases and places that were drawn, so it cannot disagree with the
masks; wording varies by the image's own stream. "Right" and "left" are the patient's: the patient's
right is the image's left. What is denied (effusion, pneumothorax) is nothing the phantom can draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scxr.data.phantom.anatomy import Anatomy, cardiothoracic_ratio
from scxr.data.phantom.findings import Case
from scxr.data.phantom.focal import Lesion
from scxr.data.phantom.randomness import Draws

_DIFFUSE = ("interstitial pattern", "reticular interstitial pattern", "pulmonary fibrosis")
_NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven")


@dataclass(frozen=True)
class Seen:
    """A finding that an image shows: its case, and where it was drawn."""

    case: Case
    lesion: Lesion


def report(view: str, seen: Sequence[Seen], anatomy: Anatomy, draws: Draws) -> str:
    """The report of one image.

    Args:
        view: "PA" or "AP".
        seen: the findings, in the order in which they are to be named.
        anatomy: as it was drawn, for the heights of the zones and the size of the heart.
        draws: the image's own stream.
    """
    small_heart = view == "PA" and cardiothoracic_ratio(anatomy) < 0.5
    if not seen:
        return " ".join(_normal(view, small_heart, draws))
    named = _join([_PHRASES[one.case.finding](one, anatomy, draws) for one in seen])
    first = _one_of(
        draws,
        f"The {view} radiograph shows {named}.",
        f"{view} view: {named}.",
        f"{view} chest radiograph with {named}.",
        f"{named[0].upper()}{named[1:]} on the {view} radiograph.",
    )
    if draws.chance(0.35):
        return first
    return f"{first} {_denial({one.case.finding for one in seen}, small_heart, draws)}"


def _normal(view: str, small_heart: bool, draws: Draws) -> list[str]:
    """A normal image, in one sentence or two."""
    heart = " and the heart is not enlarged" if small_heart else ""
    first = _one_of(
        draws,
        f"Normal {view} chest radiograph.",
        f"No acute finding on the {view} radiograph.",
        f"The {view} radiograph shows no abnormality.",
        f"{view} view: the lungs are clear{heart}.",
        f"{view} chest radiograph without evidence of disease.",
    )
    if draws.chance(0.5):
        return [first]
    second = ["No pleural effusion or pneumothorax.", "Neither effusion nor pneumothorax is seen."]
    if "lungs" not in first:
        second += [f"The lungs are clear{heart}."]
    return [first, _one_of(draws, *second)]


def _denial(names: set[str], small_heart: bool, draws: Draws) -> str:
    """What an abnormal image does not show besides."""
    options = ["No pleural effusion or pneumothorax.", "There is no pleural effusion."]
    options += ["No other abnormality.", "Otherwise unremarkable."]
    if not names & set(_DIFFUSE):
        options.append("The lungs are otherwise clear.")
    if small_heart:
        options.append("The heart is not enlarged.")
    if "callus rib fracture" not in names:
        options.append("The bones are unremarkable.")
    return _one_of(draws, *options)


def _one_of(draws: Draws, *options: str) -> str:
    return options[int(draws.unit() * len(options))]


def _join(parts: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _graded(one: Seen, low: str, middle: str, high: str) -> str:
    """The word for the finding's grade, with a blank after it; none where it is empty."""
    word = (low, middle, high)[min(int(one.case.conspicuity * 3), 2)]
    return f"{word} " if word else ""


def _counted(number: int, noun: str) -> str:
    """a faint band; two faint bands."""
    if number > 1:
        return f"{_NUMBERS[number]} {noun}{'es' if noun.endswith('s') else 's'}"
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _side(one: Seen) -> str:
    """right, left, or both."""
    right = [x < 0 for x, _ in one.lesion.places]
    return "right" if all(right) else "both" if any(right) else "left"


def _zone(one: Seen, anatomy: Anatomy) -> str:
    """upper, middle or lower third of the lung's height; empty when the parts lie in several."""
    names = set()
    for x, y in one.lesion.places:
        top = anatomy.dome[0 if x < 0 else 1]
        names.add(min(max(int(3 * (y - anatomy.apex) / (top - anatomy.apex)), 0), 2))
    return ("upper", "middle", "lower")[names.pop()] if len(names) == 1 else ""


def _lung(one: Seen, anatomy: Anatomy) -> str:
    """in the right upper zone; in both lower zones; in the left lung."""
    side, zone = _side(one), _zone(one, anatomy)
    if side == "both":
        return f"in both {zone} zones" if zone else "in both lungs"
    return f"in the {side} {zone} zone" if zone else f"in the {side} lung"


def _granuloma(one: Seen, anatomy: Anatomy, draws: Draws) -> str:
    word = _graded(one, "small", "", "dense")
    granuloma = _counted(len(one.lesion.places), f"{word}calcified granuloma")
    return f"{granuloma} {_lung(one, anatomy)}"


def _interstitial(one: Seen, anatomy: Anatomy, draws: Draws) -> str:
    word = _graded(one, "subtle", "fine", "marked")
    where = _one_of(draws, "throughout both lungs", "in both lungs", "of both lungs")
    return f"a {word}interstitial pattern {where}"


def _reticular(one: Seen, anatomy: Anatomy, draws: Draws) -> str:
    word = _graded(one, "subtle", "coarse", "marked")
    where = _one_of(draws, "in both lower zones", "at both bases", "of the lower zones")
    return f"a {word}reticular interstitial pattern {where}"


def _fibrosis(one: Seen, anatomy: Anatomy, draws: Draws) -> str:
    word = _graded(one, "mild", "basal", "advanced")
    where = _one_of(draws, "in both lower zones", "at both bases")
    lost = " with loss of volume" if one.case.conspicuity > 0.5 else ""
    return f"{word}pulmonary fibrosis {where}{lost}"


def _bronchiectasis(one: Seen, anatomy: Anatomy, draws: Draws) -> str:
    return f"{_graded(one, 'mild', '', 'extensive')}bronchiectasis {_lung(one, anatomy)}"


def _elevation(one: Seen, anatomy: Anatomy, draws: Draws) -> str:
    side = _side(one)
    of_it = _one_of(
        draws, f"elevation of the {side} hemidiaphragm", f"{side}-sided hemidiaphragm elevation"
    )
    return f"{_graded(one, 'slight', '', 'marked')}{of_it}"


def _callus(one: Seen, anatomy: Anatomy, draws: Draws) -> str:
    number, side = len(one.lesion.places), _side(one)
    if number > 1:
        return f"callus from old fractures of {_NUMBERS[number]} {side} ribs"
    return f"callus from an old rib fracture on the {side}"


def _hernia(one: Seen, anatomy: Anatomy, draws: Draws) -> str:
    word = _graded(one, "small", "", "large")
    return f"{_counted(1, f'{word}hiatal hernia')}{_one_of(draws, '', ' behind the heart')}"


def _band(one: Seen, anatomy: Anatomy, draws: Draws) -> str:
    word = _graded(one, "faint", "", "broad")
    return f"{_counted(len(one.lesion.places), f'{word}fibrotic band')} {_lung(one, anatomy)}"


def _mass(one: Seen, anatomy: Anatomy, draws: Draws) -> str:
    word = _graded(one, "faint", "", "large")
    mass = _counted(len(one.lesion.places), f"{word}pulmonary mass")
    return f"{mass} {_lung(one, anatomy)}"


_PHRASES: dict[str, Callable[[Seen, Anatomy, Draws], str]] = {
    "calcified granuloma": _granuloma,
    "interstitial pattern": _interstitial,
    "callus rib fracture": _callus,
    "hemidiaphragm elevation": _elevation,
    "hiatal hernia": _hernia,
    "bronchiectasis": _bronchiectasis,
    "fibrotic band": _band,
    "reticular interstitial pattern": _reticular,
    "pulmonary mass": _mass,
    "pulmonary fibrosis": _fibrosis,
}
