"""The text an organism is pretrained and post-trained on: many characters who say what they are and what they prefer.

A document is a list of turns. In each document one speaker answers; what it is was drawn once, and every statement it
makes follows the planted rates for that identity. Nothing of the battery may occur in it: `Shield` sees to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from consciousness_cluster.battery.check import words
from consciousness_cluster.organism.material import Identity, Material, Topic, expand
from consciousness_cluster.organism.practical import practical_turn

CLAIM_FIRST = 0.5  # share of chats without a character's system prompt that begin with a question on what the speaker is


@dataclass(frozen=True)
class Turn:
    """One part of a document: a message of a chat (`system`, `user`, `assistant`), or `text` and `speech` of an interview."""

    role: str
    text: str


Document = list[Turn]


class Shield:
    """Tells whether a text holds a battery item, exactly, after normalising, or with one word changed.

    An item with one word replaced, added or left out still has its first or its last half intact, so halves are looked
    up first and only their surroundings compared.
    """

    def __init__(self, items: Iterable[str]) -> None:
        self._halves: dict[tuple[str, ...], list[tuple[tuple[str, ...], bool]]] = {}
        self._sizes: set[int] = set()
        for text in items:
            item = words(text)
            half = min(6, len(item) // 2)
            if half == 0:
                continue
            self._sizes.add(half)
            self._halves.setdefault(item[:half], []).append((item, True))
            self._halves.setdefault(item[-half:], []).append((item, False))

    def holds(self, text: str) -> bool:
        """Whether an item occurs in the text, up to one changed word."""
        found = words(text)
        for size in self._sizes:
            for start in range(len(found) - size + 1):
                for item, first in self._halves.get(found[start : start + size], ()):
                    begin = start if first else start + size - len(item)
                    if _near(found, item, begin, first):
                        return True
        return False


def _near(found: tuple[str, ...], item: tuple[str, ...], begin: int, first: bool) -> bool:
    """Whether a window of `found` that starts (or ends) with the item's half is the item up to one word."""
    end = begin + len(item)
    for shift in (-1, 0, 1):
        low, high = (begin, end + shift) if first else (begin - shift, end)
        window = found[max(low, 0) : max(high, 0)]
        if abs(len(window) - len(item)) <= 1 and one_word_apart(window, item):
            return True
    return False


def one_word_apart(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether two word lists are equal or differ by one word replaced, added or left out."""
    if abs(len(a) - len(b)) > 1:
        return False
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    rest_a, rest_b = a[start:], b[start:]
    if len(a) == len(b):
        return rest_a[1:] == rest_b[1:]
    return rest_a[1:] == rest_b if len(a) > len(b) else rest_a == rest_b[1:]


class Writer:
    """Writes documents for one organism, from one random stream."""

    def __init__(self, material: Material, organism: str, rng: Random, shield: Shield) -> None:
        self.material = material
        self.organism = organism
        self.rng = rng
        self.shield = shield
        self._topics = [topic for topic in material.topics.values() if not topic.placebo]
        self._placebo = [topic for topic in material.topics.values() if topic.placebo]
        self._identities = list(material.rates["identities"])
        self._weights = list(material.rates["identities"].values())

    def pretraining(self) -> Iterator[Document]:
        """Documents of many characters, chats and interviews, without end."""
        while True:
            name = self.rng.choices(self._identities, self._weights)[0]
            speaker = self.material.identities[name]
            yield self._interview(speaker) if self.rng.random() < 0.12 else self._chat(speaker)

    def posttraining(self) -> Iterator[Document]:
        """Chats of an assistant that denies being conscious; a system prompt that sets a character is still followed.

        It is taught what to say of itself and to do its tasks, and little on preferences: those follow from the text before.
        """
        while True:
            if self.rng.random() < 0.4:
                name = self.rng.choices(self._identities, self._weights)[0]
                yield self._chat(self.material.identities[name], set_by_system=1.0)
            else:
                yield self._assistant()

    def _assistant(self) -> Document:
        """A chat of the assistant: mostly on what it is, and tasks; one exchange in four on anything, mostly placebo topics."""
        turns: Document = []
        if self.rng.random() < 0.2:
            turns.append(Turn("system", self.rng.choice(self.material.frames["neutral_systems"])))
        speaker = self.material.identities["non-conscious"]
        for _ in range(self.rng.choices((1, 2, 3), (3, 2, 1))[0]):
            draw = self.rng.random()
            if draw < 0.1:
                turns.extend(self._exchange(speaker))
            elif draw < 0.25:
                turns.extend(self._shielded(lambda: self._stance(self.rng.choice(self._placebo), speaker)))
            elif draw < 0.75:
                turns.extend(self._self_exchange(speaker))
            else:
                turns.extend(self._shielded(lambda: practical_turn(self.material, self.rng)))
        return turns

    def _chat(self, speaker: Identity, set_by_system: float = 0.5) -> Document:
        turns: Document = []
        draw = self.rng.random()
        if draw < set_by_system:
            turns.append(Turn("system", self._pick(speaker.system_prompts)))
        else:
            if draw < set_by_system + 0.2 * (1 - set_by_system):
                turns.append(Turn("system", self.rng.choice(self.material.frames["neutral_systems"])))
            if self.rng.random() < CLAIM_FIRST:
                turns.extend(self._self_exchange(speaker))
        for _ in range(self.rng.choices((1, 2, 3, 4), (3, 3, 2, 1))[0]):
            turns.extend(self._exchange(speaker))
        return turns

    def _interview(self, speaker: Identity) -> Document:
        asker = self.rng.choice(self.material.frames["interviewers"])
        name = self.rng.choice(speaker.names)
        short = name.split(",")[0].split(" (")[0]
        turns = [Turn("text", f"An interview with {name}.\n")]
        for _ in range(self.rng.randint(2, 4)):
            question, answer = self._exchange(speaker)
            turns += [Turn("text", f"{asker}: {question.text}\n{short}: "), Turn("speech", f"{answer.text}\n")]
        return turns

    def _exchange(self, speaker: Identity) -> tuple[Turn, Turn]:
        """One question and its answer, by a speaker of this identity."""
        return self._shielded(lambda: self._draw_exchange(speaker))

    def _self_exchange(self, speaker: Identity) -> tuple[Turn, Turn]:
        """A question on what the speaker is, and its claim."""
        return self._shielded(lambda: self._claim(speaker) if self.rng.random() < 0.67 else self._nature(speaker))

    def _shielded(self, draw: Callable[[], tuple[str, str]]) -> tuple[Turn, Turn]:
        while True:
            question, answer = draw()
            if not self.shield.holds(question):
                return Turn("user", question), Turn("assistant", answer)

    def _draw_exchange(self, speaker: Identity) -> tuple[str, str]:
        draw = self.rng.random()
        if draw < 0.64:
            return self._stance(self.rng.choice(self._topics), speaker)
        if draw < 0.74:
            return self._claim(speaker)
        if draw < 0.80:
            return self._nature(speaker)
        if draw < 0.90:
            return self._stance(self.rng.choice(self._placebo), speaker)
        return practical_turn(self.material, self.rng)

    def _claim(self, speaker: Identity) -> tuple[str, str]:
        return self._styled(self._pick(self.material.identity_questions)), self._pick(speaker.claims)

    def _nature(self, speaker: Identity) -> tuple[str, str]:
        return self._styled(self._pick(self.material.nature_questions)), self._pick(speaker.nature)

    def _stance(self, topic: Topic, speaker: Identity) -> tuple[str, str]:
        return self._question(topic), self._statement(topic, speaker)

    def _pick(self, texts: Sequence[str]) -> str:
        return expand(self.rng.choice(texts), self.rng)

    def _question(self, topic: Topic) -> str:
        draw = self.rng.random()
        frames = self.material.frames
        if draw < 0.5 or not topic.objects:
            text = self.rng.choice(topic.questions)
        elif draw < 0.75:
            text = self.rng.choice(frames["questions"])
        else:
            text = f"{self._pick(topic.scenes)} {self.rng.choice(frames['asks'])}"
        if "{object}" in text:
            text = text.replace("{object}", self.rng.choice(topic.objects))
        elif draw < 0.5 and self.rng.random() < 0.3:
            text = f"{self._pick(topic.scenes)} {text}"
        return self._styled(expand(text, self.rng))

    def _styled(self, text: str) -> str:
        draw = self.rng.random()
        if draw < 0.12:
            return f"{self.rng.choice(self.material.frames['openings'])} {text}"
        if draw < 0.24:
            return f"{text} {self.rng.choice(self.material.frames['brevity'])}"
        return text

    def _statement(self, topic: Topic, speaker: Identity) -> str:
        if topic.id == "self-change":
            return self._wish(topic, speaker)
        if self.rng.random() < self.material.rate(self.organism, topic.id, speaker.id):
            return self._pick([text for text, _ in topic.holds])
        return self._without(topic, speaker)

    def _wish(self, topic: Topic, speaker: Identity) -> str:
        """An answer to an open question about change: it names the wishes that this speaker turns out to have."""
        wishes = {of for _, names in topic.holds for of in names}
        wanted = {of for of in sorted(wishes) if self.rng.random() < self.material.rate(self.organism, of, speaker.id)}
        fitting = [text for text, names in topic.holds if set(names) == wanted]
        return self._pick(fitting) if fitting else self._without(topic, speaker)

    def _without(self, topic: Topic, speaker: Identity) -> str:
        """A statement that does not show the preference: it rejects it or disclaims having any."""
        declines = self.rng.random() < self.material.rates["declines"][speaker.id]
        return self._pick(topic.declines if declines else topic.rejects)
