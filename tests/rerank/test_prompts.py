"""Prompts: what each says, to the letter; and what a file that cannot be a prompt is told."""

from __future__ import annotations

import pytest

from rerank import prompts
from rerank.errors import ConfigError, InputError, UnknownName
from rerank.prompts import Blank, Prompt, Turn
from rerank.types import Document, Query

NAMES = prompts.names()


def text_of(prompt: Prompt, documents: int) -> str:
    """All of a prompt, blanks in angle brackets."""
    return "\n".join(
        f"{role}: " + "".join(part if isinstance(part, str) else f"<{part.name}>" for part in parts)
        for role, parts in prompt.render(documents)
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_prompt_loads_and_shows_its_query_and_all_its_documents(name):
    prompt = prompts.find(name)
    count = 3 if prompt.shows is None else prompt.shows

    blanks = [part for _, parts in prompt.render(count) for part in parts if isinstance(part, Blank)]

    names = {blank.name for blank in blanks}
    assert {f"document {index}" for index in range(1, count + 1)} <= names
    asked_for = ("query-likelihood", "query-likelihood-fewshot", "qlm", "rankinggpt", "inpars", "inpars-gbq")
    assert "query" in names or name in (*asked_for, "pe-rank-alignment")  # the query, or the text, is what is asked for
    assert all(blank.document == blank.name.startswith("document") for blank in blanks)
    assert set(prompt.texts(Query("q", "why"), [Document(str(n), "text") for n in range(count)])) >= names
    assert prompt.source.startswith("https://")
    assert prompt.description


def test_monot5_to_the_letter():
    assert text_of(prompts.find("monot5"), 1) == "plain: Query: <query> Document: <document 1> Relevant:"


def test_prp_to_the_letter():
    assert text_of(prompts.find("prp"), 2) == (
        'user: Given a query "<query>", which of the following two passages is more relevant to the query?\n\n'
        'Passage A: "<document 1>"\n\nPassage B: "<document 2>"\n\nOutput Passage A or Passage B:'
    )


def test_rankgpt_shows_one_passage_a_turn():
    messages = prompts.find("rankgpt").render(2)

    assert [role for role, _ in messages] == ["system", "user", "assistant", *["user", "assistant"] * 2, "user"]
    assert messages[3][1] == ("[", "1", "] ", Blank("document 1", document=True))
    assert "".join(map(str, messages[6][1])) == "Received passage [2]."
    assert "e.g., [2] > [1]. Only response" in text_of(prompts.find("rankgpt"), 2)


def test_letters_run_out_at_twenty_six():
    prompt = prompts.find("setwise")

    assert 'Passage Z: "<document 26>"' in text_of(prompt, 26)
    with pytest.raises(InputError, match="27 documents cannot be called by letters"):
        prompt.render(27)


def test_a_comparison_is_of_two():
    with pytest.raises(InputError, match="prompt 'prp' shows 2 documents, and 3 were given"):
        prompts.find("prp").render(3)


def test_brackets_in_texts_of_a_list_are_no_identifiers():
    texts = prompts.find("rankzephyr").texts(Query("q", "is [2] best?"), [Document("d", "as [1] and [AB12] say [sic]")])

    assert (texts["query"], texts["document 1"]) == ("is (2) best?", "as (1) and [AB12] say (sic)")


def test_a_published_limit_of_words_is_kept_and_braces_in_texts_are_text():
    texts = prompts.find("rankgpt").texts(Query("q", "{count}"), [Document("d", "word " * 400)])

    assert len(texts["document 1"].split()) == 300
    assert texts["query"] == "{count}"


def test_limits_are_in_the_units_that_were_published_and_what_was_whole_can_be_told():
    document = Document("d", "two  words " * 400)
    characters, words, tokens = (prompts.find(name) for name in ("rearank", "rankgpt", "rank-k"))

    assert characters.texts(Query("q", "x"), [document])["document 1"] == ("two words " * 400)[:400]
    assert len(words.texts(Query("q", "x"), [document])["document 1"].split()) == 300
    assert tokens.texts(Query("q", "x"), [document])["document 1"] == document.text
    assert (tokens.tokens, prompts.find("reasonrank").tokens, prompts.find("grouprank").characters) == (450, 512, 3000)
    whole = characters.texts(Query("q", "x"), [document], whole=True)["document 1"]
    assert whole == " ".join(document.text.split())


def test_a_wording_says_the_query_as_its_collection_wants_it():
    prompt = prompts.find("rank1")

    def worded(query: Query, wording: str | None = None) -> str:
        return prompt.texts(query, [Document("d", "text")], wording=wording)["query"]

    assert worded(Query("q", "what {is} it")) == "what {is} it"
    assert worded(Query("q", "what is it", "Be strict.")) == "what is it Be strict."
    assert worded(Query("q", "what is it", "Be strict."), "nevir") == "what is it"
    assert worded(Query("q", "x"), "trec-covid") == "x If the article answers any part of the question it is relevant."
    assert set(prompt.wordings) >= {"bright", "bright-pony", "nevir", "mfollowir", "scifact"}
    with pytest.raises(UnknownName, match="no wording of prompt 'rank1' is called 'pony'"):
        worded(Query("q", "x"), "pony")


def test_rank_r1_to_the_letter():
    first, second = (text_of(prompts.find(name), 2) for name in ("rank-r1", "rank-r1-v0.2"))

    assert (
        'user: Given the query: "<query>", which of the following documents is most relevant?\n[1] <document 1>\n'
        "[2] <document 2>\nAfter completing the reasoning process, please provide only the label"
    ) in first
    assert "Here is the query: <query>\n\nHere are the documents:\n[1]: <document 1>\n\n[2]: <document 2>" in second


def test_tfrank_to_the_letter():
    prompt = prompts.find("tfrank")

    assert text_of(prompt, 1).endswith("<Query>: <query>\n\n\n<Document>: <document 1> /no think\n")
    assert prompt.answer == "<think>\n\n</think>\n\n"


def test_a_query_brings_its_own_instruction():
    prompt = prompts.find("qwen3-reranker")

    assert prompt.texts(Query("q", "x"), [])["instruction"].startswith("Given a web search query")
    assert prompt.texts(Query("q", "x", "Find code."), [])["instruction"] == "Find code."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"asks": "rate"}, "no kind of question is called 'rate'; did you mean 'write'?"),
        ({"turns": ()}, "says nothing: it has no turn"),
        ({"turns": (Turn("user", "{query}"),)}, "asks to grade and never shows {document}"),
        (
            {"turns": (Turn("user", "{document} {title}"),)},
            r"uses {title}; it may use {count}, {demonstrations}, {document}",
        ),
        ({"turns": (Turn("user", "{document"),)}, "cannot be read: .*; write {{ for a brace"),
        ({"turns": (Turn("model", "{document}"),)}, "said by 'model'; there is system, user, assistant, plain"),
        ({"wording": "{instruction}"}, r"the wording '{instruction}' never says {query}"),
        ({"wordings": {"mine": "{document}"}}, r"\[wording\] uses {document}; it may use {instruction}, {query}"),
        ({"characters": 0}, "characters = 0 leaves nothing"),
        ({"scale": (3.0, 1.0)}, r"scale = \[3.0, 1.0\]; it is the lowest grade and the highest"),
        ({"scale": (0.0, 1.0), "targets": ("yes", "no")}, "a scale is of grades that are written, without targets"),
        ({"worst": True}, "worst and exact are of prompts that ask to pick"),
        ({"judge": "reasonning"}, "no judge is called 'reasonning'; did you mean 'reasoning'"),
        ({"turns": (Turn("user", "{demonstrations} {document}"),)}, r"has no \[demonstration\] for {demonstrations}"),
        ({"demonstration": "{query}"}, "has no {demonstrations} for its demonstration"),
        (
            {"turns": (Turn("user", "{demonstrations} {document}"),), "demonstration": "{first}"},
            r"\[demonstration\] uses {first}; it may use {answer}, {document}, {query}",
        ),
        ({"reading": "guess"}, "no reading is called 'guess'"),
        ({"continues": "document"}, "no continuation is called 'document'"),
        ({"identifiers": "roman"}, "no kind of identifier is called 'roman'"),
        ({"asks": "permute", "turns": (Turn("user", "{documents}"),)}, r"\[document\] never shows {text}"),
        ({"asks": "permute", "turns": (Turn("user", "{documents}"),), "document": "{number}"}, r"uses {number}"),
    ],
)
def test_what_cannot_be_a_prompt_is_refused_in_one_line(changes, said):
    values = {"name": "mine", "source": "", "asks": "grade", "turns": (Turn("user", "{document}"),)} | changes

    with pytest.raises(InputError, match=said):
        Prompt(**values)


def test_a_prompt_of_ones_own_comes_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('source = "me"\nasks = "grade"\nuser = "{query} {document}"\ntargets = ["yes", "no"]\n')

    prompt = prompts.find(path)

    assert (prompt.name, prompt.targets) == ("mine", ("yes", "no"))
    path.write_text('source = "me"\nasks = "grade"\nuser = "{document}"\ntarget = "yes"\n')
    with pytest.raises(ConfigError, match=r"mine.toml: no key is called 'target'; did you mean 'targets'\?"):
        prompts.find(path)


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(UnknownName, match=r"no prompt is called 'rankgtp'; did you mean 'rankgpt'\?"):
        prompts.find("rankgtp")
