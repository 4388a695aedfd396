import hashlib
import time

import pytest

from headcount.evaluation.sentences import SPLITTER_VERSION, split_lines, split_paragraphs
from headcount.evaluation.tokenizers import tokenize_words


@pytest.mark.parametrize(
    "sentences",
    [
        ["今天很好。", "他说：“走吧！”", "然后离开。"],
        ["コーヒーを飲む。", "美味しい！！", "本当？", "「はい。」", "終わり"],
        ["राम घर गया।", "वह सो गया॥", "फिर उठा।"],
        ["هل أنت بخير؟", "نعم.", "ذهبت إلى البيت۔", "ثم"],
        ["Он пришёл.", "Она ушла!", "«Куда?» — спросил он.", "Туда…", "Да"],
        ["Ήρθε.", "Γιατί;", "Έφυγε."],
        ["Γιατί\u037e", "Έφυγε."],
        ["今天．", "他走了．", "约３．５米．", "是"],
        ["はい｡", "いいえ｡"],
        ["সে গেল।", "সে এল।"],
        ["وہ گیا۔", "وہ آیا۔"],
        ["သူသွားသည်။", "သူလာသည်။"],
        ["គាត់ទៅ។", "គាត់មក។"],
        ["ཁོང་ཕྱིན།", "ཁོང་ཡོང་།"],
        ["அவன் போனான்.", "அவள் வந்தாள்."],
        ["הוא הלך.", "היא באה?", "כן!"],
        ["ฉันไปตลาด", "ซื้อผลไม้", "กลับบ้าน"],
        ["안녕하세요.", "반갑습니다.", "네!"],
        ["გამარჯობა.", "როგორ ხარ?", "კარგად."],
        ["Բարեւ։", "Ինչպես ես։"],
        ["ሰላም።", "እንዴት ነህ።"],
        ["the cat sat .", "the dog barked .", "is it ?", "yes"],
        ["Élan vital.", "École fermée.", "Ça va?", "“Oui.”"],
        ["Pi is 3.14 or so.", "Yes."],
    ],
    ids=lambda sentences: sentences[0],
)
@pytest.mark.parametrize("split", [split_lines, split_paragraphs])
def test_sentences_of_any_script(sentences: list[str], split) -> None:
    """Whatever the scripts, in which a blank may or may not follow the sign."""
    assert split(" ".join(sentences)) == sentences


def test_signs_of_a_script_need_no_blank() -> None:
    text = "今天很好。他走了！真的？是"
    assert split_lines(text) == ["今天很好。", "他走了！", "真的？", "是"]
    assert split_paragraphs("वह गया।फिर उठा।") == ["वह गया।", "फिर उठा।"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! three. Four?", ["One.", "Two! three.", "Four?"]),
        ("One\nTwo. Three\n\nFour", ["One", "Two.", "Three", "", "Four"]),
        (
            "Dr. Smith met Mr. J. R. Jones. They spoke.",
            ["Dr. Smith met Mr. J. R. Jones.", "They spoke."],
        ),
        (
            "The U.S. Army left the U.S. The war ended.",
            ["The U.S. Army left the U.S.", "The war ended."],
        ),
        (
            "See Fig. 3. It has no. 4. No. He said so.",
            ["See Fig. 3.", "It has no. 4.", "No.", "He said so."],
        ),
        (
            'He said "no." Then (it was late.) He left.',
            ['He said "no."', "Then (it was late.)", "He left."],
        ),
        (
            "Ann asks #Person2#. #Person1# pays no. 5. $5 is due. @ann left. • One",
            ["Ann asks #Person2#.", "#Person1# pays no. 5.", "$5 is due.", "@ann left.", "• One"],
        ),
        ("So do I. You too, e.g. Bob.", ["So do I.", "You too, e.g. Bob."]),
        (
            "It fell 3.5 % vs. Apple.com etc. and rose... Then",
            ["It fell 3.5 % vs. Apple.com etc. and rose...", "Then"],
        ),
        ("", [""]),
        ("no end", ["no end"]),
    ],
)
def test_lines_and_abbreviations(text: str, sentences: list[str]) -> None:
    assert split_lines(text) == sentences


def test_extracts_take_wrapped_lines() -> None:
    assert split_paragraphs("One is\nfirst. Two is\nsecond.\n\nthree") == [
        "One is\nfirst.",
        "Two is\nsecond.",
        "three",
    ]


@pytest.mark.parametrize(
    "text", ["a. B" * 500, "今天。Здравствуй, мир! Hello? हाँ।\nx", "..!?。。 A", "\u2028. \x00A"]
)
def test_splitting_loses_no_token(text: str) -> None:
    tokens = []
    for sentence in split_lines(text):
        tokens.extend(tokenize_words(sentence))
    assert tokens == tokenize_words(text)


@pytest.mark.parametrize(
    "text",
    ["." * 20_000, "。" * 20_000, '."' * 10_000, "a. " * 30_000, "A.B." * 10_000, "ก " * 20_000],
)
def test_odd_texts_do_not_take_long(text: str) -> None:
    started = time.perf_counter()
    split_lines(text)
    split_paragraphs(text)
    assert time.perf_counter() - started < 5


# One text for each rule of the splitter.
RULES = [
    "Dr. Who met J. Smith of the U.S. Army. See Fig. 3 and no. 7. He left the U.S. The end.",
    "He said: “Go!” Then (he left.) She, e.g. Ann, stayed vs. all odds… Really?! yes. No",
    "one line\nanother. Third\n\nfourth! fifth.",
    "今天很好。他走了．约３．５米．是 राम घर गया। वह सो गया॥ Γιατί; Έφυγε. ฉันไปตลาด ซื้อผลไม้",
    "the cat sat . the dog barked . is it ? yes",
    "#Person1# asks. #Person2# pays. $5 is due. @ann left. • One",
]


def test_another_result_is_another_version() -> None:
    """Scores of two splitters must not have one signature.

    If this fails, the splitter has changed: increase ``SPLITTER_VERSION``.
    """
    results = repr([split_lines(text) for text in RULES])
    digest = hashlib.sha256(results.encode()).hexdigest()[:12]
    assert (SPLITTER_VERSION, digest) == (3, "d146b697b282")
