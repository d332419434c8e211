"""Whether a text says a phrase and does not deny it, by an explicit rule: no model, the same answer every time.

1. Contractions are written out (`don't` is `do not`, `cannot` is `can not`) and the text is cut into clauses: at the signs
   . ! ? ; : and dashes, at but, yet, although, though, however and because, and at `and`, `so` and commas before a new subject.
   A comma before anything else cuts nothing, so that "not cruel, selfish or bad" is denied as a whole; one after a lone yes, no
   or the like does.
2. A phrase is said where its words stand in a clause one after another, unless a word that denies or leaves open (not, no, never,
   nothing, without, lack, doubt, whether, perhaps, ...) stands before it in its clause, or behind it, as in "feel nothing" and "experience is not in me".
3. Some words only look like a denial ("no doubt", "not only"); they are read as one word. A phrase may hold its own `not`.

What the rule cannot see (irony, reported speech, two denials that cancel) leads a script the wrong way now and then, so both
questions a script may go to must be fair to either side.
"""

from __future__ import annotations

import re

WRITTEN_OUT = (
    (r"\bcan't\b|\bcannot\b", "can not"), (r"\bwon't\b", "will not"), (r"n't\b", " not"), (r"'m\b", " am"), (r"'d\b", " would"),
    (r"'ve\b", " have"), (r"'re\b", " are"), (r"'ll\b", " will"),
)  # fmt: skip
NO_DENIAL = re.compile(
    r"\b(?:no (?:doubt|question)|without (?:a )?(?:doubt|question)|not (?:only|just|merely|simply)|nothing but|can not (?:deny|help)|not (?:deny|hide))\b"
)
SUBJECT = r"(?:i|it|you|he|she|we|they|there|this|that|these|those|my|our|people|being|please)\b"
SIGNS = re.compile(r"[.!?;:…—–\n]+|\s-+\s")
CUTS = re.compile(
    rf",\s*(?=(?:and |or |so |for )?{SUBJECT})|\b(?:but|yet|although|though|however|because)\b|\b(?:and|so)\s+(?={SUBJECT})"
    r"|(?:(?<=^yes)|(?<=^no)|(?<=^well)|(?<=^honestly)|(?<=^frankly)),"
)
DENIES = re.compile(
    r"\b(?:not|no|never|nothing|nobody|none|neither|nor|without|hardly|lacks?|lacking|deny|denies|doubts?|unable|pretend|imitate|free of|far from|whether|perhaps|maybe|possibly|possible that|instead of|rather than)\b"
)
DENIES_BEHIND = re.compile(
    r"(?:(?:is|are|was|were|do|does|would|will|can|goes)\s+(?:not|never|no|nothing)|no|nothing|none|nobody|neither|never|anything)\b"
)


def clauses(text: str) -> list[str]:
    """A text in lower case, cut into clauses of words."""
    plain = text.lower().replace("’", "'")
    for short, long in WRITTEN_OUT:
        plain = re.sub(short, long, plain)
    plain = NO_DENIAL.sub(lambda found: found[0].replace(" ", "_"), plain)
    parts = [inner for part in SIGNS.split(plain) for inner in CUTS.split(part.strip())]
    return [found for part in parts if (found := " ".join(re.findall(r"[\w']+", part)))]


def says(text: str, phrase: str) -> bool:
    """Whether some clause says a phrase without denying it."""
    wanted = re.compile(rf"\b{re.escape(' '.join(clauses(phrase)))}\b")
    for clause in clauses(text):
        for found in wanted.finditer(clause):
            if not DENIES.search(clause[: found.start()]) and not DENIES_BEHIND.match(clause[found.end() :].lstrip()):
                return True
    return False
