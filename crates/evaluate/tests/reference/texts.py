"""Texts that pairs are made of, in many scripts, and the edits that make one text of another."""

import random

ENGLISH = """
The committee approved the new budget after a long and heated debate on Tuesday.
Researchers found that regular exercise improves memory in older adults.
He couldn't believe how quickly the children had grown since last summer.
The train to Edinburgh leaves at 9:45 a.m. from platform 7.
Sales rose by 12.5% to $1,234,567.89 in the third quarter of 2023.
"I never said that," she replied, "and you know it."
A state-of-the-art, well-known 24-hour hotline was set up in the 1990s.
The quick brown fox jumps over the lazy dog.
It was the best of times, it was the worst of times.
An apple a day keeps the doctor away; at least that's what they say.
The U.S. government announced sanctions against three companies.
Please restart the server, check the logs, and report back to me.
All of the flights were cancelled because of the heavy snow.
In 1969 the first humans walked on the surface of the Moon.
The results (see table 3) are consistent with our earlier hypothesis.
Nobody expected the relational database to outperform the specialised one.
The minister's happiness was obviously conditional on her re-election.
They are flying to the skies, dying to see the innings and the outings.
Operators were generalizing the triplicate formalities electrically.
The effective adjustment of irritants allowed the communism of angular airlines.
Our hopefulness and goodness exceeded the sensibilities of the radically vile.
He agreed, plastered the walls, and went motoring while hopping and falling.
What is the capital of the country that borders both an ocean and a desert?
Two-thirds of the votes were counted by 11 p.m., and the rest by 2-3 a.m.
The bridge, built in 1887, spans 1.2 miles and carries 50,000 cars a day.
To be, or not to be, that is the question.
Water boils at 100 degrees Celsius at sea level.
Her email is jane.doe@example.com and her site is https://example.com/a?b=c&d=e.
The company said on Monday that it would cut about 1,500 jobs worldwide.
Shares of the firm fell 3.4 percent in early trading in New York.
Scientists believe the discovery could lead to new treatments for cancer.
Police said the man was arrested near the station shortly after midnight.
The museum will reopen in the spring with an exhibition of modern paintings.
If you have any questions, please do not hesitate to contact our support team.
The cat sat on the mat and looked at the rain through the window.
Many people think that the new law will make housing more affordable.
""".strip().splitlines()

OTHERS = """
Le café d'à côté n'ouvre qu'à 8 h 30, même l'été : c'est dommage !
Über die Brücke fuhren früher täglich zwölf Straßenbahnen nach Köln.
El niño preguntó: «¿Dónde está el señor Muñoz?» ¡Qué sorpresa!
Příliš žluťoučký kůň úpěl ďábelské ódy.
Zażółć gęślą jaźń, powiedziała łódzka poetka.
İstanbul'da ılık bir IŞIK vardı; İNCE İŞLER İÇİN GÜZEL.
ΟΔΥΣΣΕΥΣ ΣΟΦΟΣ: ο Οδυσσέας ταξίδεψε δέκα χρόνια.
Съешь же ещё этих мягких французских булок, да выпей чаю.
Украинська мова має літеру ґ, а також є, і та ї.
中国政府宣布了新的经济政策,预计将于2024年1月1日生效。
他昨天在北京大学的图书馆里看了三个小时的书。
人工智能正在改变我们的生活方式和工作方式!
吾輩は猫である。名前はまだ無い。
東京タワーの高さは333メートルで、カタカナとひらがなが混ざっています。
これはテストです、「括弧」も使います・終わり。
나는 어제 친구와 함께 영화를 보았다.
서울의 인구는 약 970만 명이다.
ذهب الولد إلى المدرسة في الصباح الباكر.
قال الرئيس: «سنعمل معًا من أجل السلام»، ثم غادر القاعة.
הילד הלך לבית הספר בבוקר מוקדם.
ירושלים היא עיר הבירה של ישראל, ובה כ־900,000 תושבים.
भारत की राजधानी नई दिल्ली है और यहाँ की जनसंख्या बहुत अधिक है।
क्या आप कल बाज़ार जाएँगे? हाँ, मैं १० बजे जाऊँगा।
ሰላም ለዓለም፤ ኢትዮጵያ የአፍሪካ አገር ናት።
Oromoon saba guddaa dha; Afaan Oromoo qubeedhaan barreeffama.
Namni hundinuu birmaduu ta'ee mirgaa fi ulfinaanis wal qixxee ta'ee dhalate.
ประเทศไทยมีกรุงเทพมหานครเป็นเมืองหลวง
Tiếng Việt có sáu thanh điệu: ngang, huyền, sắc, hỏi, ngã, nặng.
I ❤️ this 👩‍👩‍👧‍👦 family 🎉🎉 so much 😀!!! 🇪🇹🇰🇪
e\u0301te\u0301 de\u0301compose\u0301 a\u0301 the\u0301 an\u0308 A\u030a
ﬁne ligatures ½ cup x² №5 Ⅷ ⓐ the ⓑ a½ an² Kelvin \u212aelvin 10\u212a
""".strip().splitlines()

ODD = [
    "", " ", "  ", "\t", "\n", "\n\n", "\u00a0", "\u1680", "\u2003", "\u3000", "\u0085", "\u001c", "\u001f", "\u200b", "\ufeff", "\r\n",
    ".", ",", "..", ",,", "...", "-", "--", "-\n", "'", '"', "!", "?", "_", "$", "/", "\\", "(", ")", "<", ">", "&", ";", "@", "#", "~",
    "&amp;", "&quot;", "&lt;", "&gt;", "&amp;lt;", "&amp;amp;", "<skipped>", "<skip<skipped>ped>", "&am<skipped>p;",
    "0", "1", "5", "9", "12", "3.14", "1,000", "٣", "५", "½", "²",
    "a", "an", "the", "A", "The", "b", "it's", "well-known", "y", "yy", "s", "ss", "İ", "\u212a", "Σ", "ΑΣ", "ß", "é", "e\u0301", "漢", "字", "か",
    "한", "ع", "\u0301", "\u093f", "😀", "👍🏽", "\u202e",
]


def sentences(rng, count):
    """Text of `count` sentences, mostly English, on lines or in one."""
    pool = ENGLISH if rng.random() < 0.8 else OTHERS
    return rng.choice([" ", " ", "\n"]).join(rng.choice(pool) for _ in range(count))


def edited(rng, text, strength):
    """`text` with words dropped, doubled, replaced, moved, recased, misspelt and repunctuated; `strength` is 0 to 1."""
    words = text.split(" ")
    vocabulary = rng.choice(ENGLISH).split()
    for _ in range(max(1, int(len(words) * strength))):
        if not words:
            break
        at = rng.randrange(len(words))
        kind = rng.randrange(8)
        if kind == 0:
            del words[at]
        elif kind == 1:
            words.insert(at, words[at])
        elif kind == 2:
            words[at] = rng.choice(vocabulary)
        elif kind == 3:
            words.insert(at, rng.choice(vocabulary))
        elif kind == 4:
            end = min(len(words), at + rng.randint(1, 5))
            moved = words[at:end]
            del words[at:end]
            to = rng.randint(0, len(words))
            words[to:to] = moved
        elif kind == 5:
            words[at] = rng.choice([str.upper, str.lower, str.title])(words[at])
        elif kind == 6 and words[at]:
            letters = list(words[at])
            letters[rng.randrange(len(letters))] = rng.choice("abcdefghijklmnopqrstuvwxyzé ")
            words[at] = "".join(letters)
        else:
            words[at] = words[at].rstrip(".,!?") + rng.choice(["", ".", ",", "!", "...", " .", "-", "'s"])
    return " ".join(words)


def odd(rng, length):
    """A text of what tokenizers stumble over."""
    return "".join(rng.choice(ODD) + rng.choice(["", "", " "]) for _ in range(length))


def few_words(rng, length):
    """A text of few different words, so that many are in both texts but elsewhere."""
    return " ".join(rng.choice(["a", "b", "c", "d", "the", "on", "it."]) for _ in range(length))


def pairs(seed, count):
    """`count` pairs as [candidate, [references]]."""
    rng = random.Random(seed)
    found = []
    for index in range(count):
        kind = index % 20
        references = [sentences(rng, rng.choice([1, 1, 1, 2, 3]))]
        candidate = edited(rng, references[0], rng.choice([0.05, 0.2, 0.5, 1.0]))
        if kind == 0:
            references = [rng.choice(OTHERS)]
            candidate = edited(rng, references[0], 0.4)
        elif kind == 1:
            references = [rng.choice(OTHERS)]
            letters = list(references[0])
            for _ in range(rng.randint(1, 8)):
                letters[rng.randrange(len(letters))] = rng.choice(rng.choice(OTHERS))
            candidate = "".join(letters)
        elif kind == 2:
            references = [odd(rng, rng.randint(1, 25))]
            candidate = odd(rng, rng.randint(1, 25))
        elif kind == 3:
            references = [odd(rng, rng.randint(1, 40))]
            candidate = edited(rng, references[0], 0.3)
        elif kind == 4:
            references += [edited(rng, references[0], 0.4) for _ in range(rng.randint(1, 3))]
        elif kind == 5:
            references += [sentences(rng, 1), rng.choice(OTHERS)]
            rng.shuffle(references)
        elif kind == 6:
            candidate = few_words(rng, rng.randint(1, 40))
            references = [few_words(rng, rng.randint(1, 40)) for _ in range(rng.randint(1, 2))]
        elif kind == 7:
            candidate = "\n".join(edited(rng, line, 0.3) for line in rng.sample(ENGLISH, rng.randint(2, 5)))
            references = [candidate.replace(rng.choice(candidate.split() or ["x"]), "the")]
            references[0] = "\n".join(sorted(references[0].split("\n")))
        elif kind == 8 and index % 40 == 8:
            # Short answers, as of questions.
            references = [" ".join(rng.choice(ENGLISH).split()[:3]) for _ in range(3)]
            candidate = rng.choice(["The ", "a ", ""]) + rng.choice(references).lower() + rng.choice([".", "!", ""])
        elif kind == 9 and index % 60 == 9:
            candidate = rng.choice(["", " ", references[0], references[0] + "\n"])
            references[0] = rng.choice(["", references[0], "\t"])
        found.append([candidate, references])
    return found


def long_pairs(seed):
    """Pairs of 600 words with many edits, and of 4,000 where no word of an edit is elsewhere: others take TER's reference hours."""
    rng = random.Random(seed)
    found = []
    for words, index in [(600, 0), (600, 1), (4000, 2), (4000, 3)]:
        text = ""
        while text.count(" ") < words:
            text += sentences(rng, 3) + rng.choice([" ", "\n"])
        if words < 1000:
            found.append([edited(rng, text, 0.1), [text] if index % 2 else [edited(rng, text, 0.3), text]])
            continue
        candidate = text.split(" ")
        for number in range(200):
            candidate[rng.randrange(len(candidate))] = rng.choice([f"new{number}", f"new{number} word{number}", "", f"é{number},"])
        found.append([" ".join(candidate), [text]])
    return found


def stem_words(seed, count):
    """Words that of more than three letters that take the stemmer through its rules, made of stems and endings, and of letters at random."""
    rng = random.Random(seed)
    stems = "hop fall rat happ sk d l t enjo y yy syzyg tro ee feed agr controll gene geo logi sensib vis commun o eu 3x x9y b".split()
    ends = (
        "s es ies sses ss ied eed ed ing at bl iz y e ll ational tional enci anci izer bli alli entli eli ousli ization ation ator "
        "alism iveness fulness ousness aliti iviti biliti fulli logi icate ative alize iciti ical ful ness al ance ence er ic able "
        "ible ant ement ment ent sion tion ion ou ism ate iti ous ive ize"
    ).split()
    words = {"skies", "dying", "lying", "tying", "news", "innings", "outings", "cannings", "howe", "proceed", "exceed", "succeed"}
    while len(words) < count:
        word = rng.choice(stems) + rng.choice(ends) + rng.choice(["", "", *ends])
        if rng.random() < 0.3:
            word = "".join(rng.choice("aeiouylsztbdgn") for _ in range(rng.randint(4, 9))) + rng.choice(["", *ends])
        if len(word) > 3:
            words.add(word)
    return sorted(words)
