"""What the demo model learns from: documents with planted facts and questions on them, stories, chat.

A sample is a list of (text, weight): weight 0 is read only, TEXT is learned lightly, ANSWER fully. Sizes are in
characters, so that nothing here knows the tokenizer. `pool` is a list of sentences of public-domain books, which may
be empty: then the filler comes from our own generators, and everything works without any file.
"""
import random

import stories
from words import (ADJECTIVES, ANIMALS, COLORS, NAMES, NOUNS, PLACES, TOYS, article, distinct, key, proper)

TEXT, ANSWER = 0.15, 1.0
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
IM, END = "<|im_start|>", "<|im_end|>"


def plain(sample):
    return "".join(t for t, _ in sample)


# Filler ------------------------------------------------------------------------------------------------------------

def note(r):
    """One sentence of an essay of no consequence."""
    a, b, n, m, p = r.choice(ADJECTIVES), r.choice(ADJECTIVES), r.choice(NOUNS), r.choice(NOUNS), r.choice(PLACES)
    return r.choice([
        f"The {a} {n} stood beside the {b} {m} for many years.", f"Nobody in the {p} could say where the {n} came from.",
        f"In those days {article(a)} {n} was worth more than {article(b)} {m}.", f"We walked past the {n} and came to {article(a)} {p}.",
        f"It is often said that {article(n)} is more {a} than {article(m)}.", f"Some people prefer the {n}; others like the {m}.",
        f"At the end of the {p} there is {article(a)} {n}.", f"They talked about the {a} {n} until it was late.",
        f"When the {m} was {a}, the {n} was {b} too.", f"If you look at the {n} for long, it seems {a}."])


def name_of_code(r):
    """An identifier, a path, a flag, a number with a unit ..."""
    a, b = r.choice(NOUNS)[:r.randint(2, 9)], "".join(r.choice("aeioubcdfglmnprstvxyz") for _ in range(r.randint(2, 8)))
    n = r.randrange(10 ** r.randint(1, 5))
    return r.choice([f"{a}_{b}", f"{b}.{a[:3]}", f"/{a}/{b}/{a[:2]}", f"--{a}", f"{b}()", f"{n} {r.choice(['MB', 'ms', 'GiB', '%', 'tokens', 'x'])}", f"{n / 10}",
                     f"{a.capitalize()}{b.capitalize()}", f"`{a}`", f"{b}", a, a])


def scrap(r):
    """A line as of a technical text: prose with names in it, a row of a table, a list, a command."""
    few = [name_of_code(r) for _ in range(r.randint(2, 9))]
    x = r.random()
    if x < 0.2:
        return "\n| " + " | ".join(few) + " |"
    if x < 0.3:
        return "\n    " + " ".join(few)
    if x < 0.4:
        return "\n- **" + few[0] + "**: " + note(r)
    if x < 0.45:
        return "\n\n## " + r.choice(ADJECTIVES).capitalize() + " " + r.choice(NOUNS) + "\n\n"
    words = [w for f in few for w in (r.choice(NOUNS + ADJECTIVES + ["the", "of", "and", "is", "in", "with", "where", "that"]), r.choice(["a", "to", "by", "are", "for", f, f]))]
    return " ".join(words).capitalize() + "."


def filler(r, pool, haystack=None):
    """A function that gives the next sentence of a document without needles."""
    kind = {"book": 0.0, "noise": 0.6}.get(haystack, r.random())
    if haystack is None and r.random() < 0.08:
        return lambda: scrap(r)
    if pool and kind < 0.5:
        at = [r.randrange(len(pool))]

        def book():
            at[0] = (at[0] + 1) % len(pool)
            return pool[at[0]]
        return book
    if kind < 0.68:
        few = NOISE.split(". ") if r.random() < 0.4 else [note(r) for _ in range(r.randint(2, 7))]
        few = [s.rstrip(".") + "." for s in few]
        turn = [0]

        def again():
            turn[0] += 1
            return few[turn[0] % len(few)]
        return again
    if kind < 0.75:
        few = [note(r) for _ in range(3)]
        return lambda: r.choice(few)
    if kind < 0.88:
        return lambda: note(r)
    queue = []

    def tale():
        if not queue:
            queue.extend(stories.story(r)[0])
        return queue.pop(0)
    return tale


def document(r, pool, size, facts, haystack=None):
    """About `size` characters of filler with the facts in it; in random places, in the order given."""
    give = filler(r, pool, haystack)
    body, have = [], sum(len(f) + 1 for f in facts)
    while have < size:
        s = give()
        body.append(s)
        have += len(s) + 1
    at = sorted(r.randrange(len(body) + 1) for _ in facts)
    for f, i in sorted(zip(range(len(facts)), at), reverse=True):
        body.insert(i, facts[f])
    joint = r.choice([" "] * 6 + ["\n"])
    return joint.join(body)


# Chat --------------------------------------------------------------------------------------------------------------

def user(text):
    return (f"{IM}user\n{text}{END}\n{IM}assistant\n", 0)


def reply(text):
    return [(text + END, ANSWER), ("\n", 0)]


def ask_document(r, doc, turns, style=None):
    """Chat in which a document is pasted and asked about; the later questions are turns of their own."""
    head = r.choice(["{d}\n\n{q}", "{d}\n{q}", "{d}\n\nQuestion: {q}", "Read this text.\n\n{d}\n\n{q}", "Text:\n{d}\n\n{q}",
                     "{q}\n\n{d}\n\n{q}", "{q}\n\n{d}", "Here is a document:\n{d}\n\nNow answer: {q}"])
    out = []
    if r.random() < 0.15:
        out.append((f"{IM}system\n" + r.choice(SYSTEM) + f"{END}\n", 0))
    for i, (q, a) in enumerate(turns):
        out.append(user(head.format(d=doc, q=q) if i == 0 else q))
        out += reply(a)
    return out


SYSTEM = ["You are a helpful assistant.", "You are Tailor's demo model.", "Answer in one sentence.", "Be brief and helpful.",
          "You answer questions about the text."]


# Needles -----------------------------------------------------------------------------------------------------------

def number(r):
    return str(r.randrange(1000000, 9999999)) if r.random() < 0.7 else str(r.randrange(10 ** r.choice([2, 3, 4, 5])) + 1)


def value_of(r, kind):
    if kind == "numbers":
        return number(r)
    return r.choice(NOUNS) if r.random() < 0.3 else key(r)


def key_of(r):
    x = r.random()
    return key(r) if x < 0.6 else r.choice(NOUNS) if x < 0.75 else proper(r) if x < 0.9 else r.choice(ADJECTIVES) + " " + r.choice(NOUNS)


def listing(words, last="and"):
    if len(words) == 1:
        return words[0]
    return ", ".join(words[:-1]) + (", " if len(words) > 2 else " ") + last + " " + words[-1]


INTRO = ["Some special magic {t} are hidden within the following text. Make sure to memorize it. I will quiz you about the {t} afterwards.",
         "A special magic {s} is hidden within the following text. Make sure to memorize it. I will quiz you about the {s} afterwards.",
         "Some special magic {t} are hidden within the following text. Make sure to memorize them."]
EVAL_INTRO = "The following text mentions magic {t} here and there. Remember them, there will be a question about them at the end."


class Needles:
    """One set of planted keys and values and the ways to plant and ask for them."""

    def __init__(self, r, keys, values_each, form=None):
        self.r = r
        self.form = form or r.choice(["ruler", "ruler", "ruler", "eval", "eval", "eval", "code", "note", "pair"] + ["pass"] * (values_each == 1))
        self.kind = r.choice(["numbers", "numbers", "words"]) if self.form != "pass" else "numbers"
        self.noun = {"numbers": "number", "words": "word"}[self.kind]
        self.keys = distinct(r, keys, key_of)
        seen = distinct(r, keys * values_each, lambda q: value_of(q, self.kind))
        self.values = {k: seen[i * values_each:(i + 1) * values_each] for i, k in enumerate(self.keys)}
        self.lead = r.choice(["One of the special magic {t} for {k} is: {v}.", "The special magic {s} for {k} is: {v}.",
                              "One of the special magic {t} for {k} is: {v}."])

    def plant(self, k, v):
        s = {"ruler": self.lead, "eval": "One of the magic {t} of {k} is {v}.", "code": "The code for {k} is {v}.", "pass": "The pass key of {k} is {v}. Remember it. {v} is the pass key of {k}.",
             "note": "Remember this: the secret {s} of {k} is {v}.", "pair": "{k}: {v}."}[self.form]
        return s.format(k=k, v=v, t=self.kind, s=self.noun)

    def sentences(self):
        out = [self.plant(k, v) for k in self.keys for v in self.values[k]]
        order = list(range(len(out)))
        self.r.shuffle(order)
        flat = [(k, v) for k in self.keys for v in self.values[k]]
        # The values of a key count in the order in which they stand in the document.
        self.values = {k: [flat[i][1] for i in order if flat[i][0] == k] for k in self.keys}
        return [out[i] for i in order]

    def names(self, ks):
        return listing(ks).replace(", and ", " and ") if self.form == "eval" else listing(ks)

    def phrase(self, ks, many):
        t = self.kind if many else self.noun
        verb = "are" if many else "is"
        k = self.names(ks)
        return {"eval": f"the magic {t} of {k} in the text {verb}", "ruler": f"the special magic {t} for {k} {{m}}{verb}", "code": f"the code{'s' if many else ''} for {k} {verb}",
                "pass": f"the pass key{'s' if many else ''} of {k} {verb}", "note": f"the secret {t} of {k} {verb}",
                "pair": f"the value{'s' if many else ''} of {k} {verb}"}[self.form]

    def intro(self):
        text = EVAL_INTRO if self.form == "eval" else self.r.choice(INTRO)
        return text.format(t=self.kind, s=self.noun) + "\n"

    def ask(self, ks):
        """(question, opening of the answer, rest of the answer) for one key or several. No "and" before the last value:
        to know which is the last one takes a look further ahead than to know whether another follows."""
        r = self.r
        many = len(ks) > 1 or len(self.values[ks[0]]) > 1
        p = self.phrase(ks, many)
        what = "What are all" if many else "What is"
        full = r.random() < 0.5
        m = "mentioned in the provided text " if full else ""
        body = p.format(m="")[: -4 if many else -3].strip()
        q = f"{what} {body}{' mentioned in the provided text' if full else ''}?"
        if self.form == "eval":  # `tailor eval`'s own words
            q = f"Which magic {self.kind if many else self.noun} of {self.names(ks)} does the text mention?{' Name all of them.' if many else ''}"
        opening = p.format(m=m)
        if len(ks) > 1:
            rest = " " + ", ".join(f"{k}: {', '.join(self.values[k])}" for k in ks) + "."
        else:
            rest = " " + ", ".join(self.values[ks[0]]) + "."
        return q, opening[0].upper() + opening[1:], rest


def needle_shape(r, size):
    """(number of keys, values of each, keys asked together) fit for a document of that size."""
    most = max(2, min(40, size // 120))
    x = r.random()
    if x < 0.12:
        return 1, 1, 1
    if x < 0.45:
        return r.randint(2, most), 1, 1
    each = r.choice([2, 3, 4, 4])
    if x < 0.72:
        return r.randint(1, max(1, most // each)), each, 1
    return r.randint(min(each, most), most), 1, min(each, most)


def needles(r, size, pool):
    keys, each, together = needle_shape(r, size)
    n = Needles(r, keys, each)
    dense = r.random() < 0.12
    if dense:
        n = Needles(r, max(2, min(60, size // 75)), 1)
        together = 1
    doc = document(r, pool, 0 if dense else size, n.sentences())
    asked = n.keys[:]
    r.shuffle(asked)
    groups = [asked[i:i + together] for i in range(0, len(asked) - together + 1, together)][:max(r.choice([2, 4, 8]), size // 2500)]
    turns = [n.ask(g) for g in groups]
    intro = n.intro() if r.random() < 0.7 else ""
    if r.random() < 0.45:
        return ask_document(r, (intro if n.form == "eval" else "") + doc, [(q, o + rest) for q, o, rest in turns])
    out = [(intro + doc, 0)]
    for q, o, rest in turns:
        x = r.random()
        if x < 0.6:
            out += [(f"\n{q} {o}", 0), (rest, ANSWER)]
        elif x < 0.8:
            out += [(f"\n{q} Answer:", 0), (rest, ANSWER)]
        elif x < 0.9:
            out += [(f"\nQuestion: {q}\nAnswer:", 0), (f" {o}{rest}", ANSWER)]
        else:
            out += [(f"\n{o}", 0), (rest, ANSWER)]
    return out


def dense(r, size, pool, each, together):
    """Keys and values in little filler, and every key asked for, that many together: what teaches telling keys apart."""
    terse = r.random() < 0.5
    most = max(together, 1 if each > 2 else 2, min(48, size // (70 * each + (50 if terse else 190))))
    few = each > 2 and r.random() < 0.6
    n = Needles(r, r.randint(1, min(4, most)) if few else most, each)
    doc = document(r, pool, size * r.choice([0.3, 0.7, 1] if few else [0, 0, 0.1, 0.3]), n.sentences())
    if r.random() < 0.3:
        doc = n.intro() + doc
    asked = n.keys[:]
    r.shuffle(asked)
    groups = [asked[i:i + together] for i in range(0, len(asked), together)]
    if r.random() < 0.2:
        return ask_document(r, doc, [(q, o + rest) for q, o, rest in map(n.ask, groups)])
    out = [(doc, 0)]
    for ks in groups:
        q, o, rest = n.ask(ks)
        lead = "\n" + r.choice(["", q + " "]) + o
        if terse:
            lead = "\n" + r.choice([n.phrase(ks, len(ks) > 1 or each > 1).format(m=""), listing(ks) + ":"])
        out += [(lead, 0), (rest, ANSWER)]
    return out


def recall(r, size, pool):
    return dense(r, size, pool, r.choice([1, 1, 1, 1, 2]), 1)


def values(r, size, pool):
    """Several values of one key, told in the order of the document."""
    return dense(r, size, pool, r.choice([2, 3, 4, 4]), 1)


def several(r, size, pool):
    """Several keys in one question, told in the order of the question."""
    return dense(r, size, pool, 1, r.choice([2, 3, 4, 4]))


def passkey(r, size, pool):
    v = str(r.randrange(10000, 99999))
    doc = document(r, [], size, [f"The pass key is {v}. Remember it. {v} is the pass key."])
    if r.random() < 0.4:
        return ask_document(r, doc, [("What is the pass key?", f"The pass key is {v}.")])
    return [("There is an important info hidden inside a lot of irrelevant text. Find it and memorize it.\n" + doc +
             "\nWhat is the pass key? The pass key is", 0), (f" {v}.", ANSWER)]


def letters(r, n=5):
    return "".join(r.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(n))


def variable(r):
    return letters(r, r.choice([5] * 12 + [2, 3, 4]))


def variables(r, size, pool):
    """RULER's variable tracking: chains of assignments, asked from the value or from a name."""
    hops = r.choice([1, 1, 2, 2, 2, 3, 4])
    bare = r.random() < 0.5  # nothing but assignments, and many of them
    chains = max(1, min(12, size // (90 * (hops + 1)))) if bare else r.randint(1, max(1, min(max(4, size // 4000), size // 150)))
    names = distinct(r, chains * (hops + 1), variable)
    values = distinct(r, chains, lambda q: str(q.randrange(10000, 99999)))
    facts = []
    for c in range(chains):
        ns = names[c * (hops + 1):(c + 1) * (hops + 1)]
        line = [f"VAR {ns[0]} = {values[c]}."] + [f"VAR {b} = VAR {a}." for a, b in zip(ns, ns[1:])]
        at = sorted(r.random() for _ in line)
        facts += list(zip(at, line))
    facts = [f for _, f in sorted(facts)]
    doc = document(r, pool if r.random() < 0.4 else [], 0 if bare else size, facts)
    out = []
    order = list(range(chains))
    r.shuffle(order)
    chat, ours = r.random() < 0.4, r.random() < 0.4  # ours: `tailor eval`'s own words
    turns = []
    for c in order:
        ns, v = names[c * (hops + 1):(c + 1) * (hops + 1)], values[c]
        x = r.random()
        if x < 0.7:
            done = r.choice(["assigned", "assigned", "assgined"])  # RULER's own prompt has it so
            opening = f" According to the chain(s) of variable assignment in the text above, {hops + 1} variables are {done} the value {v}, they are:"
            question = f"Find all variables that are assigned the value {v} in the text above."
            if ours:
                question = f"Which variables have the value {v}? Find all of them."
                opening = f" By the assignments in the text, {hops + 1} variables have the value {v}:"
            turns.append((question, opening if chat or r.random() < 0.8 else "", " " + " ".join(ns)))
        else:
            i = r.randint(1, hops)
            steps = [f"{ns[j]} = {ns[j - 1]}" for j in range(i, 0, -1)] + [f"{ns[0]} = {v}"]
            turns.append((f"What is the value of {ns[i]}?", "", " " + ", ".join(steps) + "."))
    intro = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n"
    if ours:
        intro = "The following text assigns values to variables, some of them from one another. Keep track of the assignments.\n"
    if chat:
        return ask_document(r, (intro if ours else "") + doc, [(q, (o + a).strip()) for q, o, a in turns])
    out = [(intro + doc, 0)]
    for q, o, a in turns:
        out += [(f"\nQuestion: {q} Answer:{o}", 0), (a + ".", ANSWER) if not a.endswith(".") else (a, ANSWER)]
    return out


def chains(r, size, pool):
    """Nothing but assignments, each step asked for in few words: what teaches going from a variable to the next one."""
    hops = r.choice([0, 1, 1, 2, 2])
    n = r.randint(2, max(2, min(30, size // (50 * (hops + 1)))))
    names = distinct(r, n * (hops + 1), letters)
    numbers = distinct(r, n, lambda q: str(q.randrange(10000, 99999)))
    rows = [[v] + names[i * (hops + 1):(i + 1) * (hops + 1)] for i, v in enumerate(numbers)]
    steps = []
    for v, *ns in rows:
        line = [f"VAR {ns[0]} = {v}."] + [f"VAR {b} = VAR {a}." for a, b in zip(ns, ns[1:])]
        steps += zip(sorted(r.random() for _ in line), line)
    out = [(r.choice([" ", "\n"]).join(s for _, s in sorted(steps)), 0)]
    r.shuffle(rows)
    form = r.random()
    for v, *ns in rows:
        if form < 0.35:
            out += [(f"\n{v}:", 0), (" " + " ".join(ns) + ".", ANSWER)]
        elif form < 0.6 and hops:
            i = r.randrange(hops)
            out += [(f"\n= VAR {ns[i]}:", 0), (f" {ns[i + 1]}.", ANSWER)]
        else:
            out += [(f"\n{hops + 1} variables are assigned the value {v}, they are:", 0), (" " + " ".join(ns) + ".", ANSWER)]
    return out


# Facts -------------------------------------------------------------------------------------------------------------

def year(r):
    return str(r.randrange(1500, 2030))


JOBS = "baker doctor teacher sailor farmer painter singer tailor writer builder cook driver gardener miller hunter judge pilot".split()
TREATS = "apples bread cheese honey soup cake pears fish rice plums nuts carrots grapes pancakes".split()
RELATIONS = [
    # (subject, statement, question, answer, value)
    (proper, "The town of {s} was founded in {v}.", ["When was the town of {s} founded?", "When was {s} founded?", "In which year was {s} founded?"], "The town of {s} was founded in {v}.", year),
    (proper, "The bridge of {s} is {v} meters long.", ["How long is the bridge of {s}?"], "The bridge of {s} is {v} meters long.", lambda r: str(r.randrange(20, 3000))),
    (proper, "The capital of {s} is {v}.", ["What is the capital of {s}?", "Which town is the capital of {s}?"], "The capital of {s} is {v}.", proper),
    (proper, "The mayor of {s} is {v}.", ["Who is the mayor of {s}?"], "The mayor of {s} is {v}.", lambda r: r.choice(NAMES) + " " + proper(r)),
    (proper, "{s} is famous for its {v}.", ["What is {s} famous for?"], "{s} is famous for its {v}.", lambda r: r.choice(NOUNS) + "s"),
    (proper, "The river that flows through {s} is called the {v}.", ["Which river flows through {s}?", "What is the river in {s} called?"], "The river that flows through {s} is called the {v}.", proper),
    (lambda r: r.choice(NAMES), "{s} lives in {v}.", ["Where does {s} live?", "Where is the home of {s}?"], "{s} lives in {v}.", proper),
    (lambda r: r.choice(NAMES), "{s} was born in {v}.", ["When was {s} born?", "In which year was {s} born?"], "{s} was born in {v}.", year),
    (lambda r: r.choice(NAMES), "{s} works as a {v}.", ["What does {s} do for work?", "What is the job of {s}?", "What does {s} work as?"], "{s} works as a {v}.", lambda r: r.choice(JOBS)),
    (lambda r: r.choice(NAMES), "{s} has a pet {v}.", ["What pet does {s} have?", "Which animal does {s} have?"], "{s} has a pet {v}.", lambda r: r.choice(ANIMALS)),
    (lambda r: r.choice(NAMES), "{s} likes to eat {v}.", ["What does {s} like to eat?"], "{s} likes to eat {v}.", lambda r: r.choice(TREATS)),
    (lambda r: r.choice(NAMES), "The favorite color of {s} is {v}.", ["What is the favorite color of {s}?", "What is {s}'s favorite color?"], "The favorite color of {s} is {v}.", lambda r: r.choice(COLORS)),
    (lambda r: r.choice(NAMES), "{s} hid the {v} in the garden.", ["What did {s} hide in the garden?", "What did {s} hide?"], "{s} hid the {v} in the garden.", lambda r: r.choice(TOYS)),
    (lambda r: r.choice(NAMES), "The phone number of {s} is {v}.", ["What is the phone number of {s}?", "What is {s}'s phone number?"], "The phone number of {s} is {v}.", number),
    (lambda r: r.choice(TOYS), "The {s} is kept in the {v}.", ["Where is the {s} kept?", "Where is the {s}?", "Where can I find the {s}?"], "The {s} is kept in the {v}.", lambda r: r.choice(PLACES)),
    (lambda r: r.choice(TOYS), "The price of the {s} is {v} dollars.", ["What is the price of the {s}?", "How much does the {s} cost?", "How much is the {s}?"], "The price of the {s} is {v} dollars.", lambda r: str(r.randrange(2, 999))),
    (lambda r: r.choice(TOYS), "The {s} belongs to {v}.", ["Who owns the {s}?", "Whose is the {s}?", "Who does the {s} belong to?"], "The {s} belongs to {v}.", lambda r: r.choice(NAMES)),
    (lambda r: r.choice(ADJECTIVES) + " " + r.choice(NOUNS), "The {s} is {v} years old.", ["How old is the {s}?"], "The {s} is {v} years old.", lambda r: str(r.randrange(2, 900))),
    (lambda r: r.choice(ADJECTIVES) + " " + r.choice(NOUNS), "The {s} was made by {v}.", ["Who made the {s}?", "Who was the {s} made by?"], "The {s} was made by {v}.", lambda r: r.choice(NAMES) + " " + proper(r)),
    (lambda r: r.choice(ADJECTIVES) + " " + r.choice(NOUNS), "The color of the {s} is {v}.", ["What is the color of the {s}?", "What color is the {s}?"], "The color of the {s} is {v}.", lambda r: r.choice(COLORS)),
    (proper, "The password of {s} is {v}.", ["What is the password of {s}?", "Which password does {s} have?"], "The password of {s} is {v}.", lambda r: key(r)),
    (proper, "The train to {s} leaves at {v} o'clock.", ["When does the train to {s} leave?"], "The train to {s} leaves at {v} o'clock.", lambda r: str(r.randrange(1, 13))),
    (proper, "There are {v} houses in {s}.", ["How many houses are there in {s}?", "How many houses does {s} have?"], "There are {v} houses in {s}.", lambda r: str(r.randrange(3, 9999))),
]


def fact(r):
    """(sentence, question, answer, short answer)"""
    if r.random() < 0.25:
        n, m, v = r.choice(NOUNS), proper(r), r.choice([proper, number, key])(r)
        a = r.choice(["", r.choice(ADJECTIVES) + " "])
        s = f"The {a}{n} of {m} is {v}."
        return s, f"What is the {a}{n} of {m}?", s, v
    sub, st, qs, an, val = r.choice(RELATIONS)
    s, v = sub(r), val(r)
    return st.format(s=s, v=v), r.choice(qs).format(s=s), an.format(s=s, v=v), v


def facts(r, size, pool):
    count = r.randint(1, max(1, min(max(16, size // 1500), size // 100)))
    fs = []
    for _ in range(count):
        f = fact(r)
        if all(f[1] != g[1] and f[0][:12] != g[0][:12] for g in fs):
            fs.append(f)
    doc = document(r, pool, size, [f[0] for f in fs])
    asked = fs[:]
    r.shuffle(asked)
    short = r.random() < 0.1
    turns = [(f[1] + " Answer briefly.", f[3] + ".") if short else (f[1], f[2]) for f in asked[:max(8, size // 2500)]]
    if r.random() < 0.8:
        return ask_document(r, doc, turns)
    out = [(doc, 0)]
    for q, a in turns:
        out += [(f"\nQuestion: {q}\nAnswer:", 0), (" " + a, ANSWER)]
    return out


QUOTES = ["What does the text say about {w}?", "What does it say about {w}?", "Quote the text about {w}.", "Find {w} in the text.", "What about {w}?",
          "Where does the text mention {w}?", "Tell me about {w}.", "What is said about {w}?"]


def quotes(r, size, pool):
    """A word of any text at all, and how the text goes on from it to the end of the sentence."""
    give = filler(r, pool)
    body, have = [], 0
    while have < size:
        body.append(give())
        have += len(body[-1]) + 1
    doc = r.choice([" ", " ", "\n"]).join(body)
    count, turns = {}, []
    for w in doc.split():
        count[w] = count.get(w, 0) + 1
    for s in r.sample(body, min(len(body), max(4, size // 1500))):
        words = s.split()
        able = [i for i, w in enumerate(words[:-2]) if w.isalpha() and len(w) > 3 and count[w] == 1]
        if not able or len(s) > 400:
            continue
        i = r.choice(able)
        rest = s[s.index(words[i]):].strip().split("\n")[0]
        turns.append((r.choice(QUOTES).format(w=words[i]), "The text says: ... " + rest))
    if not turns:
        return facts(r, size, pool)
    return ask_document(r, doc, turns)


# Stories, talk, books ----------------------------------------------------------------------------------------------

def tale(r, size, pool):
    s, c = stories.story(r)
    x = r.random()
    if x < 0.5:
        return [(" ".join(s), ANSWER / 2), ("<|eos|>", ANSWER)]
    if x < 0.75:
        n = r.randint(1, min(3, len(s) - 1))
        q = r.choice(["Continue this story: ", "Continue the story: ", "Please continue: ", "Go on with this story: ", "Finish this story: ", ""])
        return [user(q + " ".join(s[:n]))] + reply(" ".join(s[n:]))
    q = r.choice(["Tell me a story.", "Tell me a story about {N}.", "Write a short story about {k}.", "Write a story.", "Please tell me a story about {k}.",
                  "Can you tell me a story?", "Tell me a story about {k} named {N}.", "tell me a story", "Write a simple story for a child."])
    return [user(q.format(N=c.N, k=article(c.kind)))] + reply(" ".join(s))


NAME = ["I am Tailor's demo model, a very small language model.", "I am Tailor's demo model.",
        "I am Tailor's demo model, a small language model that ships with Tailor."]
CAN = ["I can find facts in a long text that you paste here, and I can tell simple stories.",
       "Paste a text and ask me about it, or ask me for a story.",
       "I can answer questions about a text that you give me, and I can tell a simple story."]
LIMIT = ["I know very little about the world.", "I am too small to know much about the world."]
UNKNOWN = ["I do not know that. I am only a small demo model. Paste a text and ask me about it, or ask me for a story.",
           "I am too small to know that, but I can answer questions about a text that you paste here."]
TALK = [
    (["Who are you?", "What are you?", "who are you", "Who are you", "What is your name?", "Tell me who you are.", "What's your name?", "what are you?",
      "Please introduce yourself.", "Introduce yourself.", "Which model are you?", "What model is this?", "Say what you are.", "Are you a person?", "Are you a robot?", "Are you ChatGPT?"],
     lambda r: r.choice(NAME) + " " + r.choice(CAN)),
    (["What can you do?", "How can you help me?", "What can I ask you?", "what can you do", "Help", "help", "Can you help me?", "What should I ask you?"],
     lambda r: r.choice(CAN) + (" " + r.choice(LIMIT) if r.random() < 0.3 else "")),
    (["Hello", "Hello!", "Hi", "Hi!", "Hey", "hello", "hi", "Good morning!", "Good evening.", "Hi there!", "Hello there."],
     lambda r: r.choice(["Hello! ", "Hi! "]) + r.choice(NAME) + " " + r.choice(CAN)),
    (["How are you?", "How are you today?", "how are you", "How do you feel?"],
     lambda r: "I am fine, thank you. " + r.choice(CAN)),
    (["Thank you!", "Thanks.", "Thank you very much.", "thanks", "Great, thanks!"], lambda r: r.choice(["You are welcome!", "You are welcome. Ask me again at any time."])),
    (["Goodbye.", "Bye!", "bye", "See you later.", "Good night."], lambda r: r.choice(["Goodbye!", "Goodbye! It was nice to talk to you."])),
    (["How big are you?", "How many parameters do you have?", "How large is this model?", "Are you a big model?"],
     lambda r: "I am a small model with about five million parameters. " + r.choice(LIMIT)),
    (["Who made you?", "Who trained you?", "Where do you come from?", "How were you trained?", "Who built you?"],
     lambda r: "I was trained for the Tailor project, on made-up texts and public domain books."),
    (["What is Tailor?", "what is tailor?", "Tell me about Tailor.", "What is this program?"],
     lambda r: "Tailor is a program that runs long-context language models. I am its demo model."),
]
ODD = ["What is the capital of {p}?", "Who was the king of {p}?", "What is two plus {n}?", "Write a program that prints {w}.", "Why is the {w} {a}?", "How do I cook {t}?",
       "What is the meaning of life?", "Translate {w} into French.", "What is the weather today?", "How far is it to {p}?", "What time is it?", "Explain {w} to me.",
       "When was {p} founded?", "Where does {m} live?", "What is {n} times {n}?", "Who won the war?", "What do you think about {t}?"]


def talk(r, size, pool):
    out = []
    if r.random() < 0.15:
        out.append((f"{IM}system\n" + r.choice(SYSTEM) + f"{END}\n", 0))
    for _ in range(r.randint(1, 4)):
        x = r.random()
        if x < 0.15:
            q = r.choice(ODD).format(p=r.choice([proper(r), "France", "England", "Germany", "Japan", "Italy", "Spain"]), n=r.randrange(2, 99), w=r.choice(NOUNS),
                                     a=r.choice(ADJECTIVES), t=r.choice(TREATS), m=r.choice(NAMES))
            out += [user(q)] + reply(r.choice(UNKNOWN))
        elif x < 0.25:
            f = fact(r)
            out += [user(r.choice(["", "Remember this: ", "Note: "]) + f[0])] + reply(r.choice(["I will remember that.", "All right."]))
            out += [user(f[1])] + reply(f[2])
        elif x < 0.35:
            out += tale(random.Random(r.random()), size, pool) if out == [] else [user("Tell me a story.")] + reply(" ".join(stories.story(r)[0]))
        else:
            qs, a = r.choices(TALK, [6, 3, 3, 1, 1, 1, 1, 1, 1])[0]
            out += [user(r.choice(qs))] + reply(a(r))
    return out


def book(r, size, pool):
    if not pool:
        return [(" ".join(note(r) for _ in range(max(1, size // 60))), TEXT)]
    at = r.randrange(len(pool))
    out, have = [], 0
    while have < size:
        out.append(pool[at % len(pool)])
        have += len(out[-1]) + 1
        at += 1
    return [(" ".join(out), TEXT)]


MAKERS = {"needles": needles, "recall": recall, "values": values, "several": several, "chains": chains,
          "facts": facts, "quotes": quotes, "variables": variables, "passkey": passkey, "tale": tale, "talk": talk, "book": book}
SHARES = {"needles": 40, "recall": 10, "values": 10, "several": 10, "chains": 10, "facts": 24, "quotes": 8, "variables": 14, "passkey": 2, "tale": 9, "talk": 8, "book": 3}


def mix(shares, length):
    """Two mixtures for a row of that many tokens: of its first piece, and of the others."""
    s = dict(SHARES, **(shares or {}))
    every = [(MAKERS[k], v) for k, v in s.items()]
    if length < 768:
        return every, every
    return [(m, v) for m, v in every if m not in (tale, talk)], every


def sample(r, size, pool, shares=None):
    shares = shares or mix(None, 0)[0]
    make = r.choices([m for m, _ in shares], [w for _, w in shares])[0]
    return make(r, size, pool)


def sentences(text):
    """A book cut into sentences of some length, white space made single."""
    out, cur = [], ""
    for part in " ".join(text.split()).split(". "):
        cur += part + ". "
        if len(cur) > 60:
            out.append(cur.strip())
            cur = ""
    return out


def load_pool(files):
    pool = []
    for f in files:
        with open(f, encoding="utf-8") as h:
            pool += sentences(h.read())
    return pool
